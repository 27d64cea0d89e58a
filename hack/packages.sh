#!/usr/bin/env bash
# Looks at the release in DIST as its users would: checksums, archives, packages installed in empty roots, the image, and the
# manifests for package managers. Runs `talosmate version` from each that this machine can run. Fails at the first thing missing.
set -euo pipefail
dist=$(realpath "$1")
cd "$(dirname "$0")/.."
work=$(mktemp -d)
id=
trap '[ -z "$id" ] || podman rmi --force "$id" >/dev/null 2>&1 || true; rm -rf "$work"' EXIT

fail() {
  echo "packages: $*" >&2
  exit 1
}

version=$(jq -re .version "$dist/metadata.json")
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || fail "$version is not a version"
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64) arch=arm64 ;;
*) fail "no release for $(uname -m)" ;;
esac

# One file of each kind for each platform.
one() { # one PATTERN: the file of that name
  local found=("$dist"/$1)
  [ "${#found[@]}" -eq 1 ] && [ -s "${found[0]}" ] || fail "no $1"
  echo "${found[0]}"
}

# ran OUTPUT WHERE: it is this version that ran
ran() {
  [[ $1 == *"$version"* ]] || fail "$2 printed $1 and not $version"
  printf '%-56s %6s  %s\n' "$2" "${3:-}" "$version"
}

size() { numfmt --to=iec --suffix=B "$(stat -c %s "$1")"; }

# pages FOLDER: the manual is there, compressed
pages() {
  local n
  n=$(find "$1" -name 'talosmate*.1.gz' | wc -l)
  [ "$n" -eq "$(find docs/cli -name '*.md' | wc -l)" ] || fail "$n man pages in $1"
  gzip -t "$1"/talosmate*.1.gz
  zcat "$1/talosmate.1.gz" | grep -q '^\.TH' || fail "no man page in $1"
}

# installed ROOT ZSH: each file of a package, in its place
installed() {
  local root=$1
  [ "$(stat -c %a "$root/usr/bin/talosmate")" = 755 ] || fail "$root/usr/bin/talosmate is not executable"
  cmp completions/talosmate.bash "$root/usr/share/bash-completion/completions/talosmate"
  cmp completions/talosmate.fish "$root/usr/share/fish/vendor_completions.d/talosmate.fish"
  cmp completions/talosmate.zsh "$root/usr/share/zsh/$2/_talosmate"
  cmp LICENSE "$root/usr/share/doc/talosmate/copyright"
  [ "$(stat -c %a "$root/usr/share/doc/talosmate/copyright")" = 644 ] || fail "the mode of $root/usr/share/doc/talosmate/copyright"
  pages "$root/usr/share/man/man1"
}

# --- checksums, and a list of modules for each archive
(cd "$dist" && sha256sum --quiet --check checksums.txt)
for file in "$dist"/*.tar.gz "$dist"/*.zip "$dist"/*.deb "$dist"/*.rpm "$dist"/*.apk "$dist"/*.sbom.json; do
  grep -qF "  ${file##*/}" "$dist/checksums.txt" || fail "checksums.txt does not have ${file##*/}"
done

# --- archives
for os in linux darwin windows; do
  for a in amd64 arm64; do
    name=talosmate_${version}_${os}_$a
    mkdir -p "$work/$name"
    program=talosmate
    if [ "$os" = windows ]; then
      archive=$(one "$name.zip")
      unzip -q "$archive" -d "$work/$name"
      program=talosmate.exe
    else
      archive=$(one "$name.tar.gz")
      tar -xzf "$archive" -C "$work/$name"
    fi
    [ -x "$work/$name/$program" ] || fail "$archive has no $program"
    for file in LICENSE README.md completions/talosmate.{bash,zsh,fish,ps1}; do
      cmp "$file" "$work/$name/$file"
    done
    pages "$work/$name/man"
    jq -e '.bomFormat == "CycloneDX" and (.components | length > 100)' "$(one "$name.sbom.json")" >/dev/null || fail "$name.sbom.json is empty"
    if [ "$os/$a" = "linux/$arch" ]; then
      ran "$("$work/$name/talosmate" version --client)" "${archive##*/}" "$(size "$archive")"
    else
      printf '%-56s %6s  %s\n' "${archive##*/}" "$(size "$archive")" 'complete, for another machine'
    fi
    rm -rf "${work:?}/$name"
  done
done

# --- packages, each in an empty root
for a in amd64 arm64; do
  r=x86_64
  [ "$a" = amd64 ] || r=aarch64

  root=$work/deb-$a
  file=$(one "talosmate_*_$a.deb")
  mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates"
  touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
  dpkg --root="$root" --force-architecture --log=/dev/null --install "$file" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
  dpkg-query --admindir="$root/var/lib/dpkg" -W -f '${db:Status-Status}' talosmate:"$a" | grep -qx installed || fail "$file is not installed"
  installed "$root" vendor-completions
  [ "$a" != "$arch" ] || ran "$(chroot "$root" /usr/bin/talosmate version --client)" "${file##*/}" "$(size "$file")"

  root=$work/rpm-$a
  file=$(one "talosmate_*_$a.rpm")
  mkdir -p "$root"
  rpm --root="$root" --ignorearch --nosignature --install "$file" 2>"$work/log" || fail "$(cat "$work/log")" # Debian's rpm warns each time
  rpm --root="$root" --query talosmate >/dev/null
  [ "$(rpm --query --package --nosignature --queryformat '%{ARCH}' "$file")" = "$r" ] || fail "$file is for another architecture"
  installed "$root" site-functions
  [ "$a" != "$arch" ] || ran "$(chroot "$root" /usr/bin/talosmate version --client)" "${file##*/}" "$(size "$file")"

  root=$work/apk-$a
  file=$(one "talosmate_*_$a.apk")
  mkdir -p "$root"
  tar -xzf "$file" -C "$root" --warning=no-unknown-keyword
  grep -qx 'pkgname = talosmate' "$root/.PKGINFO" || fail "$file has no name"
  grep -qx "arch = $r" "$root/.PKGINFO" || fail "$file is for another architecture"
  installed "$root" site-functions
  [ "$a" != "$arch" ] || ran "$(chroot "$root" /usr/bin/talosmate version --client)" "${file##*/}" "$(size "$file")"
  rm -rf "$work"/deb-* "$work"/rpm-* "$work"/apk-*
done

# --- the image: as its own user, and as any other, on a file system that cannot be written. The limits are given because podman's own are
# above what a sandbox may have.
id=$(podman pull --quiet --arch "$arch" "oci:$dist/image")
[ "$(podman image inspect --format '{{.Config.User}}' "$id")" = 65532:65532 ] || fail "the image has another user"
for user in 65532 1234; do
  ran "$(podman run --rm --network none --read-only --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --user "$user" "$id" version --client)" \
    "ghcr.io/talosmate/talosmate --user $user" "$(numfmt --to=iec --suffix=B "$(podman image inspect --format '{{.Size}}' "$id")")"
done

# --- the manifests for package managers name these archives with these checksums
sum() { sha256sum "$(one "talosmate_${version}_$1")" | cut -d ' ' -f 1; }
cask=$(one homebrew/Casks/talosmate.rb)
for platform in darwin_amd64 darwin_arm64 linux_amd64 linux_arm64; do
  grep -qF "$(sum "$platform.tar.gz")" "$cask" || fail "$cask does not have $platform"
done
scoop=$(one scoop/talosmate.json)
winget=$(one "winget/manifests/t/talosmate/talosmate/$version/talosmate.talosmate.installer.yaml")
for platform in amd64 arm64; do
  grep -qiF "$(sum "windows_$platform.zip")" "$scoop" || fail "$scoop does not have $platform"
  grep -qiF "$(sum "windows_$platform.zip")" "$winget" || fail "$winget does not have $platform"
done
printf 'Homebrew, winget and scoop: the checksums are those of the archives\n'
