#!/usr/bin/env bash
# Builds what the Kubernetes tests need, runs all three tiers, and says which ran. Arguments go to pytest.
#
#   tests/k8s/run.sh            builds first (once; 6 to 12 minutes for the control plane, as much for the images)
#   tests/k8s/run.sh --cached   runs what is built already, and builds nothing: for CI
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
pytest=${PYTEST:-.venv/bin/pytest}
cache=${FLOW_IMAGES_K8S:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-images-k8s}
build=1
if [ "${1:-}" = --cached ]; then build=0; shift; fi
said=()

[ $build = 0 ] || "$here/cluster/build.sh" linters
"$pytest" tests/k8s/test_manifests.py tests/k8s/test_client.py "$@"
said+=("(a) manifests and client: ran")

[ $build = 0 ] || "$here/cluster/build.sh" control-plane
if [ -x "$cache/bin/kube" ]; then
  "$pytest" -m k8s tests/k8s/test_control_plane.py "$@"
  said+=("(b) control plane: ran")
else
  said+=("(b) control plane: not run, it is not built: tests/k8s/run.sh builds it")
fi

if [ "$(id -u)" != 0 ]; then
  said+=("(c) real node: not run, it needs root")
else
  if [ $build = 1 ]; then "$here/cluster/build.sh" node; "$here/cluster/images.sh"; fi
  if [ -e "$cache/images/server.tar" ] && command -v containerd >/dev/null; then
    "$here/cluster/sandbox.sh" "$pytest" -m k8s tests/k8s/test_pods.py "$@"
    said+=("(c) real node: ran")
  else
    said+=("(c) real node: not run, its images are not built: tests/k8s/run.sh builds them")
  fi
fi
printf 'Kubernetes tests: %s\n' "${said[@]}"
