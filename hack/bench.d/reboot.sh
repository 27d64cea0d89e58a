#!/usr/bin/env bash
# Three control planes are rebooted one after the other: how long each was down, and how late its return was
# noticed.
set -euo pipefail
dir=$(mktemp -d)
export TALOSMATE_LAB_DIR=$dir TALOSCONFIG=$dir/talosconfig
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT
talosmate-lab up --detach --dir "$dir" --workers 0 --shutdown-time 2s --boot-time 10s >/dev/null

printf '\n# reboot: 3 control planes, 2 s to go down, 10 s to come up\n'
talosmate node reboot --controlplanes --progress none --query '.items[] |
  .hostname + ": API away " + (.downtime_seconds | tostring) + " s, noticed at most " + (.detection_lag_seconds | tostring) + " s late"'
