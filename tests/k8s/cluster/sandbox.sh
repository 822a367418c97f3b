#!/usr/bin/env bash
# Runs a command where a real node can live: with private network, mounts and processes, so that nothing of the
# node is seen by the machine or outlives the command. Needs root.
#
#   tests/k8s/cluster/sandbox.sh .venv/bin/pytest -m k8s tests/k8s/test_pods.py
set -euo pipefail
export FLOW_IMAGES_SANDBOX=${FLOW_IMAGES_SANDBOX:-$(mktemp -d -t flow-images-node.XXXXXX)}

if [ "${1:-}" != --inside ]; then
  [ "$(id -u)" = 0 ] || { echo "sandbox.sh: needs root" >&2; exit 2; }
  # Each node has control groups of its own, so that two on one machine don't touch each other's pods: below each
  # controller's groups (version 1) or below the only ones (version 2).
  group=$(basename "$FLOW_IMAGES_SANDBOX")
  tops=(/sys/fs/cgroup)
  [ -e /sys/fs/cgroup/cgroup.controllers ] || tops=(/sys/fs/cgroup/*/)
  network=$FLOW_IMAGES_SANDBOX/net  # By this file a command can join the network: nsenter --net=FILE COMMAND.
  clean() {
    ! mountpoint -q "$network" || umount "$network"
    local top tries
    for tries in {1..100}; do  # Busy as long as a process of it is, which takes a moment to end.
      for top in "${tops[@]}"; do
        [ ! -d "$top/$group" ] || find "$top/$group" -depth -type d -exec rmdir {} + 2>/dev/null || { sleep 0.1; continue 2; }
      done
      break
    done
    rm -rf "$FLOW_IMAGES_SANDBOX"
  }
  trap clean EXIT
  for top in "${tops[@]}"; do
    mkdir "$top/$group"
    for setting in cpus mems; do  # Nothing runs in a new group of version 1 before it has these.
      [ ! -e "$top/cpuset.$setting" ] || cat "$top/cpuset.$setting" >"$top/$group/cpuset.$setting"
    done
  done
  touch "$network"
  unshare --net="$network" --mount --pid --fork --mount-proc --kill-child "$0" --inside "$@"
  exit
fi
shift

mount --make-rslave /          # What is mounted here stays here …
mount --bind "$FLOW_IMAGES_SANDBOX" "$FLOW_IMAGES_SANDBOX"
mount --make-rshared /         # … and containers see what the kubelet mounts.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/lock
for folder in /var/lib/kubelet /var/lib/cni /var/log/pods /var/log/containers; do
  mkdir -p "$folder" "$FLOW_IMAGES_SANDBOX/node$folder"
  mount --bind "$FLOW_IMAGES_SANDBOX/node$folder" "$folder"
done
# The kubelet insists on these kernel settings. It finds them here, and the machine's own stay as they are.
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/setting-$(tr / - <<<"${setting%=*}")
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}"
done
ip link set lo up
ip link add node0 type bridge
ip address add 10.10.0.1/24 dev node0
# What stands for the internet, and for the service by which clouds hand out identities.
for address in 203.0.113.1 169.254.169.254; do ip address add "$address/32" dev node0; done
ip link set node0 up
ip route add default via 10.10.0.254 dev node0  # Leads nowhere, but the node's own address is found by it.
echo 1 >/proc/sys/net/ipv4/ip_forward
"$@"
