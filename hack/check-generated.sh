#!/usr/bin/env bash
# Generated files are committed: generating them again must not change or add anything.
set -euo pipefail
cd "$(dirname "$0")/.."
go run ./internal/docgen # fails if a field of a document is missing: see docs/fields.txt
generated=(docs/cli docs/schemas docs/fields.txt completions internal/ops/migrate/accessors.go)
stale=$(git status --porcelain -- "${generated[@]}")
if [ -n "$stale" ]; then
  printf 'stale generated files; run make generate and commit:\n%s\n' "$stale" >&2
  git --no-pager diff --stat -- "${generated[@]}" >&2
  exit 1
fi
