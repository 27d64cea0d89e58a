#!/usr/bin/env bash
# Generated files are committed: generating them again must not change or add anything.
set -euo pipefail
cd "$(dirname "$0")/.."
go run ./internal/docgen
stale=$(git status --porcelain -- docs/cli docs/schemas completions)
if [ -n "$stale" ]; then
  printf 'stale generated files; run make generate and commit:\n%s\n' "$stale" >&2
  git --no-pager diff --stat -- docs/cli docs/schemas completions >&2
  exit 1
fi
