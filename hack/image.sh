#!/usr/bin/env bash
# Builds the container image from the binaries in DIST, for amd64 and arm64, and copies it to DESTINATION:
# image.sh DIST DESTINATION, where a destination is oci:FOLDER or docker://REGISTRY/NAME:TAG. The digest goes to stdout.
# The same binaries and the same certificate authorities give the same digest.
set -euo pipefail
dist=$(realpath "$1")
destination=$2
cd "$(dirname "$0")/.."
command -v podman >/dev/null 2>&1 || sh hack/install-podman.sh

context=$(mktemp -d)
manifest=localhost/talosmate-release-$$
images=()
clean() {
  podman manifest rm "$manifest" >/dev/null 2>&1 || true
  podman rmi --force "${images[@]}" >/dev/null 2>&1 || true
  rm -rf "$context"
}
trap clean EXIT

root=$context/root
install -d -m 0755 "$root" "$root/etc" "$root/etc/ssl" "$root/etc/ssl/certs" "$root/home"
install -d -m 1777 "$root/tmp" "$root/home/nonroot" # any user may be given with --user
install -m 0644 "${CA_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}" "$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
chmod 0644 "$root/etc/passwd" "$root/etc/group"
for arch in amd64 arm64; do
  install -m 0755 "$dist/talosmate_linux_$arch"*/talosmate "$context/talosmate-$arch"
done

label() { printf -- '--label=org.opencontainers.image.%s' "$1"; }
version=$(jq -re .version "$dist/metadata.json")
# One after the other: `podman build --manifest` puts them into the index in any order.
podman manifest create "$manifest" >&2
for arch in amd64 arm64; do
  image=$(podman build --quiet --no-cache --identity-label=false --timestamp "$(git log -1 --format=%ct)" \
    --platform "linux/$arch" --file Containerfile \
    "$(label title=talosmate)" "$(label version="$version")" "$(label revision="$(git rev-parse HEAD)")" \
    "$(label source=https://github.com/talosmate/talosmate)" "$(label licenses=MPL-2.0)" "$context")
  images+=("$image")
  podman manifest add "$manifest" "containers-storage:$image" >&2
done
podman manifest push --quiet --all --format oci --digestfile "$context/digest" "$manifest" "$destination" >&2
echo "$(cat "$context/digest")"
