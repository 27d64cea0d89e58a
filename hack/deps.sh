#!/usr/bin/env bash
# Installs what the tests need in addition to Go: jq, the shells that completion is tested in, a browser that looks at the
# reports, and podman for the imager's real builds.
set -euo pipefail
cd "$(dirname "$0")"

missing=()
for program in jq zsh fish; do
  command -v "$program" >/dev/null 2>&1 || missing+=("$program")
done
[ -e /usr/share/bash-completion/bash_completion ] || missing+=(bash-completion)
browser=
for program in chromium-headless-shell chromium chromium-browser google-chrome; do
  if command -v "$program" >/dev/null 2>&1; then browser=$program; fi
done
[ -n "$browser" ] || missing+=(chromium-headless-shell fonts-dejavu-core)

if [ "${#missing[@]}" -gt 0 ]; then
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "deps: install ${missing[*]} with this system's package manager" >&2
    exit 1
  fi
  sudo=
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -q
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
fi

sh ./install-podman.sh
