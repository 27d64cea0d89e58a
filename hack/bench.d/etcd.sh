#!/usr/bin/env bash
# A snapshot of an etcd database of 1 GiB: streamed, synced, verified, opened and counted in constant memory.
set -euo pipefail
measure=$1
dir=$(mktemp -d)
export TALOSMATE_LAB_DIR=$dir TALOSCONFIG=$dir/talosconfig
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
talosmate-lab up --detach --dir "$dir" --controlplanes 1 --workers 0 --etcd-quota $((4 * 1024 * 1024 * 1024)) >/dev/null
talosmate-lab ctl etcd fill $((1024 * 1024 * 1024)) >/dev/null

printf '\n# etcd: a database of 1 GiB\n'
"$measure" -runs 1 -most 100 -name 'etcd snapshot FILE (1 GiB)' -- talosmate etcd snapshot "$dir/snap.db" --timeout 10m
"$measure" -runs 1 -most 100 -name 'etcd snapshot - (1 GiB)' -- sh -c "exec talosmate etcd snapshot - --timeout 10m >'$dir/piped.db'"
"$measure" -runs 1 -name 'etcd snapshot-status (1 GiB)' -- talosmate etcd snapshot-status "$dir/snap.db"
