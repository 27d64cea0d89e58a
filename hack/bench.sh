#!/usr/bin/env bash
# Measures what a user waits for and pays. Figures are medians of seven runs after a warm-up; a talosctl on PATH
# is measured beside ours. The programs are copied first and the page cache is left to the system: a binary
# that was just linked shows more resident pages than one that was installed.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
go build -o "$work/measure" ./hack/measure

printf '\n# start-up: CPU, peak memory, binary\n'
row() { "$work/measure" -runs 7 -name "$1" -- "${@:2}"; }
row 'talosmate version --client' bin/talosmate version --client
row 'talosmate --help' bin/talosmate --help
row 'talosmate __complete ""' bin/talosmate __complete ''
printf '%-44s %s bytes\n' 'size of talosmate' "$(wc -c <bin/talosmate)"
if command -v talosctl >/dev/null 2>&1; then
  row 'talosctl version --client' talosctl version --client
  row 'talosctl --help' talosctl --help
  row 'talosctl __complete ""' talosctl __complete ''
  printf '%-44s %s bytes\n' 'size of talosctl' "$(wc -c <"$(command -v talosctl)")"
else
  printf 'no talosctl on PATH to measure beside\n'
fi

for script in hack/bench.d/*.sh; do
  [ -e "$script" ] || continue
  bash "$script" "$work/measure"
done
