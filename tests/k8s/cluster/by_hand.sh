#!/usr/bin/env bash
# The tests' own cluster to try things in by hand: builds what is missing, and runs one real node until Ctrl-C.
#
#   make cluster
#   tests/k8s/cluster/by_hand.sh --cached     with what is built, although the checkout may have changed since
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FLOW_IMAGES_K8S:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-images-k8s}
python=${PYTHON:-.venv/bin/python}
case ${1:-} in "" | --cached) ;; *) sed -n '2,5p' "$0"; exit 2 ;; esac
cd "$here/../../.."
fail() { echo "The cluster can't start: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || fail "it needs root, for a network, mounts and control groups of its own."
mkdir -p "$cache"
exec 9>>"$cache/by-hand.lock"  # Every process of the cluster inherits it, so it is free when all of them have ended.
if ! flock --nonblock 9; then
  read -r group folder <"$cache/by-hand.lock" || fail "one is being built already."
  fail "one runs already, with its commands in $folder/bin. Ctrl-C where it was started ends it, or: kill -INT -- -$group"
fi
: >"$cache/by-hand.lock"
if [ "${1:-}" != --cached ]; then
  "$here/build.sh" control-plane && "$here/build.sh" node && "$here/images.sh" || fail "it could not be built, see above."
fi
said=$("$here/sandbox.sh" true 2>&1) || fail "this machine gives a node no room: ${said##*$'\n'}"

FLOW_IMAGES_SANDBOX=$(mktemp -d -t flow-images-cluster.XXXXXX)
export FLOW_IMAGES_SANDBOX
set -m  # The cluster is a process group of its own, so that a signal reaches all of it, whoever sent it.
"$here/sandbox.sh" "$python" -m tests.k8s.cluster.by_hand &
group=$!
echo "$group $FLOW_IMAGES_SANDBOX" >"$cache/by-hand.lock"
trap 'signalled=1; kill -INT -- "-$group" 2>/dev/null || true' INT TERM HUP
signalled=1
while [ -n "$signalled" ]; do  # A signal ends the waiting, too.
  signalled='' code=0
  wait "$group" || code=$?
done
exit "$code"
