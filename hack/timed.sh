#!/usr/bin/env bash
# Runs a step and prints how long it took: timed.sh NAME COMMAND...
set -uo pipefail
name=$1
shift
start=$(date +%s)
"$@"
code=$?
printf '== %s: %s s, exit %s\n' "$name" "$(($(date +%s) - start))" "$code" >&2
exit "$code"
