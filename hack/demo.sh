#!/usr/bin/env bash
# Starts a cluster of simulated Talos nodes and runs the main commands on it.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/bin:$PATH
dir=$(mktemp -d)
export TALOSMATE_LAB_DIR=$dir
unset TALOSMATE_OUTPUT TALOSMATE_CONFIG TALOSMATE_READ_ONLY
image=factory.talos.dev/metal-installer/376567988ad370138ad8b2698212367b8edcb69b5fd68c80be1f2ec7d603b4ba:v1.14.1
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$dir"' EXIT

step() { printf '\n\033[1m# %s\033[0m\n' "$*"; }
run() {
  printf '$ %s\n' "$*"
  "$@" || { code=$?; printf '(exit code %s)\n' "$code"; return "$code"; }
}
[ -t 1 ] || step() { printf '\n# %s\n' "$*"; }

step 'A cluster: three control planes with real etcd members and a virtual IP, two workers, real mutual TLS'
printf '$ talosmate-lab up --detach --talos-version v1.14.0 --vip auto\n'
talosmate-lab up --detach --talos-version v1.14.0 --vip auto --dir "$dir" >"$dir/up.json"
export TALOSCONFIG=$dir/talosconfig
run talosmate version

step 'A static pod of its own on each control plane'
cat >"$dir/pods.yaml" <<'EOF'
apiVersion: v1alpha1
kind: KubeStaticPodConfig
name: proxy
pod:
  apiVersion: v1
  kind: Pod
  metadata: {name: proxy, namespace: kube-system}
  spec: {containers: [{name: proxy, image: docker.io/library/haproxy:3.2}]}
EOF
printf '$ talosmate machineconfig patch --controlplanes -p @pods.yaml --mode no-reboot\n'
talosmate machineconfig patch --controlplanes -p @"$dir/pods.yaml" --mode no-reboot

step 'Is it healthy? Every check has its own result'
run talosmate health

step 'etcd, member by member; IDs survive into JSON'
run talosmate etcd status
run talosmate etcd status --query '.items[] | .hostname + " " + .id + " = " + .id_decimal'

step 'An image prune: first a preview, then for real, with the bytes freed'
for i in 1 2 3; do
  talosmate-lab ctl image add worker-1 "registry.example/shop/cart:v$i" --size "${i}00000000" --age 48h >/dev/null
done
talosmate-lab ctl image add worker-1 registry.example/shop/cart:v4 --size 400000000 --age 48h --in-use digest >/dev/null
run talosmate image prune -n worker-1
run talosmate image prune -n worker-1 --apply
run talosmate image list -n worker-1 --group

step 'A dead node costs one row, not the run: exit code 4'
talosmate-lab ctl power worker-2 off >/dev/null
run talosmate version --timeout 5s || true
talosmate-lab ctl power worker-2 on >/dev/null
talosmate-lab ctl wait worker-2 --timeout 30s >/dev/null

step 'A safety gate: with one member down, no other control plane is upgraded (exit code 5)'
talosmate-lab ctl power cp-3 off >/dev/null
run talosmate upgrade node -n cp-1 --image "$image" --timeout 5s || true
talosmate-lab ctl power cp-3 on >/dev/null
talosmate-lab ctl wait cp-3 --timeout 30s >/dev/null

step 'An upgrade of a worker from v1.14.0 to v1.14.1, with progress, proved at the end'
printf '$ talosmate upgrade node -n worker-1 --image %s -o json > result.json\n' "$image"
talosmate upgrade node -n worker-1 --image "$image" -o json >"$dir/result.json"
printf '$ jq .result result.json   # or talosmate ... --query\n'
if command -v jq >/dev/null 2>&1; then
  jq '.result | {status, server_tag, running_tag, boot_id_before, boot_id_after, downtime_seconds}' "$dir/result.json"
else
  cat "$dir/result.json"
fi
run talosmate version --direct --query '.items[] | .hostname + " " + .tag'

step 'Done. talosmate --help lists the rest; talosmate-lab up starts this cluster for you'
