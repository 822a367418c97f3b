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
mkdir -p "$cache/images"
b() { nice -n 10 buildah --root "$cache/storage" --runroot "$cache/storage-run" "$@"; }

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
  b bud --isolation=chroot -q -t localhost/pause:1 "$folder" >/dev/null
  export_image localhost/pause:1 pause
  rm -rf "$folder"
}

# The checkout's files as git knows them, so that no build output or secret gets in.
context() {
  local folder=$1
  (cd "$root" && git ls-files -z --cached --others --exclude-standard -- pyproject.toml constraints.txt LICENSE README.md \
    beam_jobs flow_images k8s serving trainer | while IFS= read -r -d '' f; do if [ -f "$f" ]; then printf '%s\0' "$f"; fi; done |
    tar -c --null -T - | tar -x -C "$folder")
}

build_project() {
  local args=() variable file target sum
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  context "$folder"
  sum=$(cd "$folder" && find . -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum | cut -c1-16)
  # pip's settings and certificates of this machine are there during the build, and not in the image.
  while IFS= read -r variable; do args+=(--env "$variable"); done < <(env | grep -E '^PIP_(INDEX_URL|CERT|DEFAULT_TIMEOUT)=' || true)
  for file in /etc/ssl/certs/ca-certificates.crt /etc/pip.conf; do
    [ ! -e "$file" ] || args+=(-v "$file:$file:ro")
  done
  local entry extras tag
  bud() { # STAGE NAME
    b bud "${args[@]}" --unsetenv PIP_INDEX_URL --unsetenv PIP_CERT --unsetenv PIP_DEFAULT_TIMEOUT --pull-never \
      --isolation=chroot --layers -q --target "$1" --build-arg "BASE=$base" ${extras:+--build-arg "EXTRAS=$extras"} \
      -f "$folder/k8s/images/Containerfile" -t "$2" "$folder" >/dev/null
  }
  for entry in predict predict:-s3:predict,dask,s3 trainer server; do  # The first ones with the extras that they have anyway.
    IFS=: read -r target tag extras <<<"$entry"
    file=$target$tag
    [ "$(cat "$cache/images/$file.built" 2>/dev/null)" = "$sum" ] && { echo "$file: built already"; continue; }
    rm -f "$cache/images/$file.built"  # What is broken off half-way counts as nothing.
    bud "build-$target" "localhost/build-$target:latest$tag"  # A name keeps what it has installed for the next time.
    bud "$target" "docker.io/flow-images/$target:$version$tag"
    export_image "docker.io/flow-images/$target:$version$tag" "$file"
    echo "$sum" >"$cache/images/$file.built"
    echo "$file: built"
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
