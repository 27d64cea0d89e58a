section 'Start-up' 'What every run pays. The read asks one node of the lab for its version.'
lab --controlplanes 1 --workers 0 --etcd=false
node=$(addresses 1)
for args in 'version --client' '--help' "__complete ''" "version -n $node"; do
  row -name "\`${args/ $node/ NODE}\`" -ours "talosmate $args" -theirs "$(talosctl_line "$args")" -runs 21 -max 'cpu=0.8x,peak=0.7x'
done
mib() { awk -v bytes="$(wc -c <"$1")" 'BEGIN { printf "%.1f MiB", bytes / 1048576 }'; }
peer=
[ -z "${TALOSCTL:-}" ] || peer=$(mib "$TALOSCTL")
row -name 'size of the program' -value "$(mib bin/talosmate)" -peer "$peer" -max '66.7 MiB'
if [ -n "${BENCH_COLD:-}" ]; then
  row -name '`make demo` from an empty build cache' -value "$(GOCACHE=$work/cache seconds make --no-print-directory demo) s"
fi
