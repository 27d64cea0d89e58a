#!/usr/bin/env bash
# Runs each fuzz target for FUZZ_TIME (30s). What it finds is written to testdata/fuzz beside the target: fix the cause and commit
# the file, which every run of the tests reads from then on. FUZZ=NAME runs one target.
set -euo pipefail
cd "$(dirname "$0")/.."
grep -rn --include='*_test.go' '^func Fuzz' internal commands | sed -E 's|^(.*)/[^/]*_test.go:[0-9]+:func (Fuzz[A-Za-z]*).*|\1 \2|' |
while read -r package target; do
  [ -z "${FUZZ:-}" ] || [ "$FUZZ" = "$target" ] || continue
  printf '%s in %s\n' "$target" "$package"
  go test "./$package" -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZ_TIME:-30s}" -parallel "${FUZZ_PARALLEL:-2}"
done
