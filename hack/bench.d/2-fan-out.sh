section 'Many nodes' '`version` of N nodes of a lab that runs on the same cores: most of the wall time is its. Dead nodes are
five of 500. With `--timeout 3s` they cost three seconds at most, beside the others, and two more where an endpoint reports
that it cannot reach them and they are dialled directly.'
lab --preset load
for n in 10 100 500; do
  row -name "$n nodes" -ours "talosmate version -n $(addresses $n)" -theirs "$(talosctl_line version -n "$(addresses $n)")" -max 'wall=1.5x,peak=1x'
done
all=$(addresses 500)
dead() { # dead NAME NODES
  row -runs 1 -any-exit -show wall,peak -name "$1" -floor '3 s' -max 'wall=10000' -ours "talosmate version --timeout 3s -n $2" \
    -theirs "$(talosctl_line version -n "$2" | sed 's/^talosctl/timeout 60 talosctl/')"
}
last() { jq -r '.nodes[-5:][].name' "$TALOSMATE_LAB_DIR/lab.json"; }
dead '500 nodes, 5 without a route' "$(addresses 495),240.0.0.1,240.0.0.2,240.0.0.3,240.0.0.4,240.0.0.5"
for node in $(last); do talosmate-lab ctl power "$node" off >/dev/null; done
dead '500 nodes, 5 refuse connections' "$all"
for node in $(last); do talosmate-lab ctl power "$node" on >/dev/null; done
for node in $(last); do talosmate-lab ctl wait "$node" >/dev/null; done
for node in $(last); do talosmate-lab ctl hang "$node" on >/dev/null; done
dead '500 nodes, 5 are silent' "$all"
for node in $(last); do talosmate-lab ctl hang "$node" off >/dev/null; done
# The endpoints' own connections to these nodes have to come back, or the next row measures that.
for endpoint in $(jq -r '.nodes[:3][].address' "$TALOSMATE_LAB_DIR/lab.json"); do
  talosmate wait --for ready -e "$endpoint" -n "$(addresses 500 | tr , '\n' | tail -5 | paste -sd,)" --wait-timeout 60s >/dev/null
done
for node in $(jq -r '.nodes[-50:][].name' "$TALOSMATE_LAB_DIR/lab.json"); do talosmate-lab ctl fault "$node" latency=500ms >/dev/null; done
row -runs 3 -name '500 nodes, 50 need 500 ms' -floor '0.5 s' -show wall,peak -ours "talosmate version -n $all" -theirs "$(talosctl_line version -n "$all")" -max 'wall=1.5x'

section 'Long lists' 'The resources are the members that 20 nodes list. 3,000 references are the names of 1,000 images; the loop
removes 60 of them one by one (with talosctl where there is one), and its time is multiplied by 50.'
talosmate-lab ctl clear "$(jq -r '.nodes[-1].name' "$TALOSMATE_LAB_DIR/lab.json")" >/dev/null
some=$(addresses 20)
row -runs 3 -name '`get members` of 10,000 resources' -ours "talosmate get members -n $some" -theirs "$(talosctl_line get members -n "$some")" -max 'wall=1.5x,peak=200'
lab --controlplanes 1 --workers 1 --etcd=false
control=$(jq -r .control "$TALOSMATE_LAB_DIR/lab.json")
for i in $(seq 1020); do
  printf 'url = "%s/ctl"\noutput = "/dev/null"\nheader = "Content-Type: application/json"\ndata = "{\\"verb\\":\\"image-add\\",\\"node\\":\\"worker-1\\",\\"params\\":{\\"ref\\":\\"registry.example/app/image-%d:v1\\",\\"age\\":\\"48h\\",\\"size\\":\\"1000000\\"}}"\nnext\n' "$control" "$i"
done >"$work/images"
curl -sS -K "$work/images"
worker=$(jq -r '.nodes[-1].address' "$TALOSMATE_LAB_DIR/lab.json")
one_by_one() {
  for i in $(seq 60); do talosctl image remove -n "$worker" --namespace cri "registry.example/app/image-$i:v1"; done
}
loop=
[ -z "${TALOSCTL:-}" ] || loop=$(seconds one_by_one | awk '{ printf "%.1f s", $1 * 50 }')
prune=$(seconds talosmate image prune -n "$worker" --older-than 1h --apply --progress none)
row -name '`image prune --apply` of 3,000 references' -value "$prune s" -peer "$loop" -max '60 s'
