#!/usr/bin/env bash
# Measures start-up, memory and long operations. Figures are medians of seven runs after a warm-up; a talosctl on
# PATH is measured too. Programs are measured as installed ones are: read from disk on demand. Right after linking
# or copying, the page cache holds a file in large pieces, which the kernel counts as resident as a whole, whether
# the program touches them or not.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/measure" ./hack/measure

printf '\n# start-up: CPU, peak memory, binary\n'
row() { "$work/measure" -runs 7 -name "$1" -- "${@:2}"; }
install_fresh() { # install_fresh FROM TO: a copy that the page cache has forgotten
  cp "$1" "$2"
  sync "$2"
  dd if="$2" iflag=nocache count=0 status=none
}
mkdir "$work/bin"
install_fresh bin/talosmate "$work/bin/talosmate"
install_fresh bin/talosmate-lab "$work/bin/talosmate-lab"
ours=$work/bin/talosmate

row 'talosmate version --client' "$ours" version --client
row 'talosmate --help' "$ours" --help
row 'talosmate __complete ""' "$ours" __complete ''
printf '%-44s %s bytes\n' 'size of talosmate' "$(wc -c <bin/talosmate)"
if command -v talosctl >/dev/null 2>&1; then
  install_fresh "$(command -v talosctl)" "$work/bin/talosctl"
  row 'talosctl version --client' "$work/bin/talosctl" version --client
  row 'talosctl --help' "$work/bin/talosctl" --help
  row 'talosctl __complete ""' "$work/bin/talosctl" __complete ''
  printf '%-44s %s bytes\n' 'size of talosctl' "$(wc -c <"$(command -v talosctl)")"
else
  printf 'no talosctl on PATH to compare with\n'
fi

PATH=$work/bin:$PATH
for script in hack/bench.d/*.sh; do
  [ -e "$script" ] || continue
  bash "$script" "$work/measure"
done
