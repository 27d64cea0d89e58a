section 'Streams' '1 GiB each; memory must not grow with the stream.'
lab --controlplanes 1 --workers 1 --etcd=false
size=$((1024 * 1024 * 1024))
node=$(jq -r '.nodes[-1].address' "$TALOSMATE_LAB_DIR/lab.json")
talosmate-lab ctl log worker-1 kubelet --bytes $size >/dev/null
talosmate-lab ctl file worker-1 /var/big --size $size >/dev/null
stream() { row -runs 1 -mib 1024 -max 'peak=110' "$@"; }
stream -name '`logs`' -ours "talosmate logs kubelet -n $node --tail -1 --timeout 10m" -theirs "$(talosctl_line logs kubelet -n "$node")"
stream -name '`fs read`' -ours "talosmate fs read -n $node /var/big --timeout 10m" -theirs "$(talosctl_line read -n "$node" /var/big)"
stream -name '`fs cp`' -ours "talosmate fs cp -n $node /var/big $work/ours --timeout 10m" -theirs "$(talosctl_line copy -n "$node" /var/big "$work/theirs")"
rm -rf "$work/ours" "$work/theirs"
lab --controlplanes 1 --workers 0 --etcd-quota $((4 * size))
node=$(addresses 1)
talosmate-lab ctl etcd fill $size >/dev/null
stream -name '`etcd snapshot`' -ours "talosmate etcd snapshot $work/ours.db --timeout 10m" -theirs "$(talosctl_line etcd snapshot -n "$node" "$work/theirs.db")"
stream -name '`etcd snapshot-status`' -ours "talosmate etcd snapshot-status $work/ours.db"
rm -f "$work/ours.db" "$work/theirs.db"
lab --controlplanes 1 --workers 0
talosmate-lab ctl etcd fill --objects 100000 $((60 * 1000 * 1000)) >/dev/null
talosmate etcd snapshot "$work/objects.db" >/dev/null 2>&1
row -runs 3 -name '`etcd verify-snapshot` of 100,000 objects' -max 'peak=200' -ours "talosmate etcd verify-snapshot $work/objects.db"
