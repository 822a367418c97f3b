#!/usr/bin/env bash
# Builds what the Kubernetes tests need, runs all three tiers, and says which ran. Other arguments go to pytest.
#
#   tests/k8s/run.sh            builds first (once, 15 to 25 minutes on two cores), then runs: 10 to 15 minutes
#   tests/k8s/run.sh --cached   runs what is built, and only brings its images up to date with the checkout
#
# KUBERNETES=1.37.2 tests/k8s/run.sh does so with another version of Kubernetes than that of cluster/kube/go.mod.
#
# CI has run (a) by `make test`, and gives the rest of its time:
#
#   tests/k8s/run.sh --cached --tiers=bc --within=SECONDS
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
pytest=${PYTEST:-.venv/bin/pytest}
cache=${FLOW_IMAGES_K8S:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-images-k8s}
kube=$cache/bin/kube${KUBERNETES:+-$KUBERNETES}
FOR_EVER=86400
build=1 tiers=abc within=$FOR_EVER said=()
for argument; do
  case $argument in
  --cached) build=0 ;;
  --tiers=*) tiers=${argument#*=} ;;
  --within=*) within=${argument#*=} ;;
  *) break ;;
  esac
  shift
done
arguments=("$@")

# Each tier: what it needs, what is in its way (nothing printed: nothing is), and how it runs, with words before pytest.
build_a() { "$here/cluster/build.sh" linters; }
obstacle_a() { :; }
run_a() { "$@" "$pytest" tests/k8s -m "not k8s" "${arguments[@]}"; }

build_b() { "$here/cluster/build.sh" control-plane; }
obstacle_b() {
  [ -x "$kube" ] && [ -x "$cache/bin/kwok" ] || echo "no control plane is built: tests/k8s/run.sh builds it"
}
run_b() { "$@" "$pytest" -m k8s tests/k8s/test_control_plane.py tests/k8s/test_others.py "${arguments[@]}"; }

build_c() { [ "$(id -u)" != 0 ] || { "$here/cluster/build.sh" node && "$here/cluster/images.sh"; }; }
obstacle_c() {
  local said
  if [ "$(id -u)" != 0 ]; then
    echo "it needs root"
  elif [ ! -e "$cache/images/server.tar" ] || [ ! -x "$kube" ] || [ ! -x "$cache/bin/kube-router" ]; then
    echo "no node is built: tests/k8s/run.sh builds it"
  elif ! said=$("$here/cluster/sandbox.sh" containerd --version 2>&1); then
    echo "this machine gives a node no room: ${said##*$'\n'}"
  elif ! said=$(timeout $(($(left) - 420)) "$here/cluster/images.sh" 2>&1); then
    echo "its images could not be brought up to date in time: ${said##*$'\n'}"
  fi
}
run_c() {
  local tests=(tests/k8s/test_by_hand.py tests/k8s/test_network_policies.py tests/k8s/test_pods.py)
  "$here/cluster/sandbox.sh" "$@" "$pytest" -m k8s "${tests[@]}" "${arguments[@]}"
}

left() { echo $((within - SECONDS)); }
tier() { # a|b|c NAME SECONDS-THAT-IT-TAKES-AT-LEAST
  local code=0 why
  [ $build = 0 ] || "build_$1"
  if [ "$(left)" -lt "$3" ]; then
    why="it takes at least $3 s, and $(left) s are left"
  else
    why=$("obstacle_$1")
  fi
  if [ -n "$why" ]; then said+=("($1) $2: not run, $why"); return; fi
  # In the foreground, where Ctrl-C reaches it, unless there is a time to keep.
  if [ "$within" = $FOR_EVER ]; then
    "run_$1" || code=$?
  else
    "run_$1" timeout --signal=INT --kill-after=60 "$(left)" || code=$?
  fi
  case $code in
  0) said+=("($1) $2: ran") ;;
  124) said+=("($1) $2: stopped, the time was over before it was through") ;;
  *) said+=("($1) $2: failed"); exit "$code" ;;
  esac
}

trap '[ ${#said[@]} = 0 ] || printf "Kubernetes tests: %s\n" "${said[@]}"' EXIT
[[ $tiers != *a* ]] || tier a "manifests and client" 60
[[ $tiers != *b* ]] || tier b "control plane" 240
[[ $tiers != *c* ]] || tier c "real node" 480
