#!/usr/bin/env bash
# 2 GiB of log through a filter and 2 GiB of file through fs cp: memory must not grow with the stream.
set -euo pipefail
measure=$1
dir=$(mktemp -d)
export TALOSMATE_LAB_DIR=$dir TALOSCONFIG=$dir/talosconfig
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
talosmate-lab up --detach --dir "$dir" --controlplanes 1 --workers 1 --etcd=false >/dev/null
size=$((2 * 1024 * 1024 * 1024))
talosmate-lab ctl log worker-1 kubelet --bytes $size >/dev/null
talosmate-lab ctl file worker-1 /var/big --size $size >/dev/null

printf '\n# streams: 2 GiB each\n'
"$measure" -runs 1 -most 100 -name 'logs kubelet --filter (2 GiB)' -- talosmate logs kubelet -n worker-1 --tail -1 --filter no-such-text --timeout 10m
"$measure" -runs 1 -most 100 -name 'fs cp (2 GiB)' -- sh -c "rm -rf '$dir/out' && exec talosmate fs cp -n worker-1 /var/big '$dir/out' --timeout 10m"
