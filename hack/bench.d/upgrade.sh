#!/usr/bin/env bash
# Three control planes and six workers, two at a time, on real Kubernetes: the wall time of `upgrade apply`
# compared with its critical path, which is the lab's own times along the longest chain (three control planes, then
# three pairs of workers): install, shutdown, boot, and the tenth of a boot until the machine's stage is running.
set -euo pipefail
dir=$(mktemp -d)
export TALOSMATE_LAB_DIR=$dir TALOSCONFIG=$dir/talosconfig XDG_STATE_HOME=$dir
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
install=${INSTALL:-10} shutdown=${SHUTDOWN:-2} boot=${BOOT:-28}
talosmate-lab up --detach --dir "$dir" --kubernetes real --preset factory --controlplanes 3 --workers 6 --talos-version v1.12.9 \
  --install-time "${install}s" --shutdown-time "${shutdown}s" --boot-time "${boot}s" >/dev/null
took=$(talosmate upgrade apply -A --to v1.13.9 --max-parallel 2 --check-images=false --snapshot "$dir/snap.db" --progress none --query .result.elapsed_seconds)
awk -v took="$took" -v install="$install" -v shutdown="$shutdown" -v boot="$boot" 'BEGIN {
  path = 6 * (install + shutdown + 1.1 * boot)
  printf "\n# upgrade: 3 control planes, 6 workers, 2 at a time\n"
  printf "wall time %.1f s, critical path %.1f s, ratio %.3f (at most 1.10)\n", took, path, took / path
  exit took / path > 1.10
}'
