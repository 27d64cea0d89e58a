#!/usr/bin/env bash
# go mod tidy for the modules that have a workspace file; with -diff it writes nothing and fails on a difference.
# Tidy knows no workspace: it gets a copy of go.mod with what go.work puts in the place of other versions. go.mod itself
# has neither replace nor exclude, so that go install …@latest works.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
for dir in . lab; do
  cd "$root/$dir"
  if grep -nE '^(replace|exclude)\b' go.mod; then
    printf '%s/go.mod must not have replace or exclude\n' "$dir" >&2
    exit 1
  fi
  replaced=$(go list -m -f '{{with .Replace}}{{if .Version}}{{$.Path}}@{{$.Version}}={{.Path}}@{{.Version}}{{end}}{{end}}' all)
  cp go.mod go.sum "$copy/"
  for r in $replaced; do go mod edit -replace="$r" "$copy/go.mod"; done
  GOWORK=off go mod tidy -modfile="$copy/go.mod"
  for r in $replaced; do go mod edit -dropreplace="${r%%=*}" "$copy/go.mod"; done
  # the sums of the versions that are replaced here and used elsewhere stay
  for r in $replaced; do
    old=${r%%=*}
    grep -F -h "${old/@/ }" go.sum >>"$copy/go.sum" || true
  done
  LC_ALL=C sort -u -o "$copy/go.sum" "$copy/go.sum"
  if [ "${1:-}" = -diff ]; then
    diff -u go.mod "$copy/go.mod"
    diff -u <(LC_ALL=C sort -u go.sum) "$copy/go.sum"
  else
    cp "$copy/go.mod" "$copy/go.sum" .
  fi
done
