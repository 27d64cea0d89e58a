#!/usr/bin/env bash
# go.mod is tidy, and has neither replace nor exclude, so that go install …@latest works.
set -euo pipefail
cd "$(dirname "$0")/.."
for dir in . lab; do
  go -C "$dir" mod tidy -diff
  if grep -nE '^(replace|exclude)\b' "$dir/go.mod"; then
    printf '%s/go.mod must not have replace or exclude\n' "$dir" >&2
    exit 1
  fi
done
