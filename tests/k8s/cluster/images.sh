#!/usr/bin/env bash
# Builds the project's images from k8s/images/Containerfile without an image registry, as archives that the test
# node imports; needs root and `build.sh node`.
#
#   tests/k8s/cluster/images.sh                    pause, predict, predict with S3, trainer, server
#   tests/k8s/cluster/images.sh sizes              what each one weighs
#
# The base image is made from Debian's own packages: Debian 12 and its Python 3.11, as in python:3.11-slim-bookworm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=${FLOW_IMAGES_K8S:-${XDG_CACHE_HOME:-$HOME/.cache}/flow-images-k8s}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
base=localhost/python:3.11-slim-bookworm
python=${PYTHON:-python3}
mkdir -p "$cache/images"
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$cache/storage" "$cache/storage-run" >"$cache/storage.conf"
export CONTAINERS_STORAGE_CONF=$cache/storage.conf BUILDAH_ISOLATION=chroot
b() { nice -n 10 buildah "$@"; }

export_image() { # NAME FILE
  rm -f "$cache/images/$2.tar"
  b push -q "$1" "oci-archive:$cache/images/$2.tar:$1"
}

build_base() {
  local tree=$cache/base-tree container
  rm -rf "$tree"
  nice -n 10 debootstrap --variant=minbase --include=python3,python3-pip,python3-venv,ca-certificates bookworm "$tree" >"$cache/base.log"
  rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/* "$tree"/usr/lib/python3.11/EXTERNALLY-MANAGED "$tree"/dev/*
  ln -sf python3 "$tree/usr/bin/python"
  container=$(b from scratch)
  b add -q "$container" "$tree" / >/dev/null
  b config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin --env LANG=C.UTF-8 "$container"
  b commit -q --rm "$container" "$base" >/dev/null
  rm -rf "$tree"
}

build_pause() {
  local folder
  folder=$(mktemp -d)
  gcc -Os -static -o "$folder/pause" "$here/pause.c"
  printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$folder/Containerfile"
  b build -q -t localhost/pause:1 "$folder" >/dev/null
  export_image localhost/pause:1 pause
  rm -rf "$folder"
}

build_project() {
  local args=(--pull-never --quiet) variable file image extras tag sum
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  (cd "$root" && "$python" -c 'import sys, pathlib, k8s.images.checkout as c; c.copy_context(pathlib.Path("."), pathlib.Path(sys.argv[1]))' "$folder")
  sum=$(cd "$folder" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
  # pip's settings and certificates of this machine are there during the build, and not in the image.
  while IFS= read -r variable; do args+=(--env "$variable" --unsetenv "${variable%%=*}"); done < <(env | grep -E '^PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)=' || true)
  for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
    [ ! -e "$file" ] || args+=(-v "$file:$file:ro")
  done
  for image in predict predict-s3 trainer server; do
    [ "$(cat "$cache/images/$image.built" 2>/dev/null)" = "$sum" ] && { echo "$image: built already"; continue; }
    rm -f "$cache/images/$image.built"  # What is broken off half-way counts as nothing.
    extras=$(sed -n 's/^[^-]*-//p' <<<"$image") tag=docker.io/flow-images/${image%%-*}:$version${extras:+-$extras}
    (cd "$root" && nice -n 10 "$python" -m k8s.images.build "${image%%-*}" --engine buildah --base "$base" --extras "$extras" --keep \
      --sboms "$cache/images" -- "${args[@]}" >/dev/null)
    export_image "$tag" "$image"
    echo "$sum" >"$cache/images/$image.built"
    echo "$image: built"
  done
  # What broken-off builds and older checkouts left behind: five gigabytes for each.
  b rm --all >/dev/null
  b rmi --prune >/dev/null
}

case ${1:-build} in
build)
  [ -e "$cache/images/pause.tar" ] || build_pause
  b inspect --type image "$base" >/dev/null 2>&1 || build_base
  build_project
  ;;
sizes)
  b images --format '{{.Name}}:{{.Tag}} {{.Size}}' | grep -v '<none>'
  (cd "$cache/images" && du -m -- *.tar | sed 's/$/ (compressed, MB)/')
  ;;
*) sed -n '2,9p' "$0"; exit 2 ;;
esac
