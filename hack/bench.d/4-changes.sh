section 'Changes' 'Three control planes are rebooted one after the other: how late the return of one was noticed at most. Three
control planes and six workers, two at a time, are upgraded on a real Kubernetes control plane: the wall time beside the
longest chain of the lab'"'"'s own times (install, shutdown, boot).'
lab --workers 0 --shutdown-time 2s --boot-time 5s
lag=$(talosmate node reboot --controlplanes --progress none --query '[.items[].detection_lag_seconds] | max')
row -name '`node reboot`: detection lag' -value "$(printf '%.2f' "$lag") s" -max '1 s'

install=${INSTALL:-5} shutdown=${SHUTDOWN:-1} boot=${BOOT:-14}
lab --kubernetes real --preset factory --controlplanes 3 --workers 6 --talos-version v1.12.9 \
  --install-time "${install}s" --shutdown-time "${shutdown}s" --boot-time "${boot}s"
took=$(talosmate upgrade apply -A --to v1.13.9 --max-parallel 2 --check-images=false --snapshot "$work/snap.db" --progress none --query .result.elapsed_seconds)
path=$(awk -v i="$install" -v s="$shutdown" -v b="$boot" 'BEGIN { printf "%.1f", 6 * (i + s + 1.1 * b) }')
row -name '`upgrade apply` of 9 nodes' -value "$took s" -floor "$path s" -max "$(awk -v path="$path" 'BEGIN { printf "%.1f s", 1.25 * path }')"
