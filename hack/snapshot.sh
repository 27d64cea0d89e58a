#!/usr/bin/env bash
# Builds a release twice, in two folders, compares the checksums of everything, and installs each package in an empty root. The result
# is in dist/. With SNAPSHOT_COLD=1 the second build compiles everything again.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/.tools:$PATH"
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT

need() {
  command -v "$1" >/dev/null 2>&1 && return
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "snapshot: install $1 with this system's package manager" >&2
    exit 1
  fi
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$1"
}
need rpm
need jq
need unzip
sh hack/install-podman.sh

# copied FOLDER: this folder's files, committed or not. A clone has what a release needs of the repository (commit, tags, a remote), even
# where this folder has not.
copied() {
  git clone --quiet --no-hardlinks . "$1"
  git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -c | tar -x -C "$1"
}

# build FOLDER: a release and its image. It is not signed, which needs the identity of a workflow.
build() {
  cd "$1"
  goreleaser release --snapshot --clean --skip=sign --parallelism 1
  bash hack/image.sh dist oci:dist/image
}

# All that is published, and the binaries. Not what goreleaser writes about its own run, nor the file for winget that has today's date.
sums() {
  (
    cd "$1/dist"
    find . -type f ! -name artifacts.json ! -name metadata.json ! -name config.yaml ! -name '*.installer.yaml' -print0 |
      sort -z | xargs -0 sha256sum
  )
}

copied "$copy/first"
copied "$copy/the/second"
export -f build
bash hack/timed.sh 'first build' bash -ec 'build "$1"' - "$copy/first"
[ -z "${SNAPSHOT_COLD:-}" ] || export GOCACHE="$copy/cache"
bash hack/timed.sh 'second build' bash -ec 'build "$1"' - "$copy/the/second"

sums "$copy/first" >"$copy/first.sums"
sums "$copy/the/second" >"$copy/second.sums"
if ! diff -u "$copy/first.sums" "$copy/second.sums" >&2; then
  echo "snapshot: the second build differs" >&2
  exit 1
fi
printf '== %s files, equal in both builds\n' "$(wc -l <"$copy/first.sums")"

rm -rf dist
mv "$copy/first/dist" dist
bash hack/timed.sh 'packages' bash hack/packages.sh dist
