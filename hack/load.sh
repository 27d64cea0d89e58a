#!/usr/bin/env bash
# 500 simulated nodes, 20 command lines at once for LOAD_TIME (1m; 5m for a release), and one MCP server beside them.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
go build -o "$dir/load" ./hack/load
cd "$dir"
export PATH="$OLDPWD/bin:$PATH" TALOSMATE_LAB_DIR=$dir/lab TALOSCONFIG=$dir/lab/talosconfig HOME=$dir XDG_STATE_HOME=$dir/state TALOSMATE_TIMEOUT=${LOAD_TIMEOUT:-2m}
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
talosmate-lab up --detach --dir "$dir/lab" --preset load >/dev/null
"$dir/load" -lab "$dir/lab" -for "${LOAD_TIME:-1m}" -parallel "${LOAD_PARALLEL:-20}" -most "${LOAD_MEMORY:-200}"
