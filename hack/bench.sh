#!/usr/bin/env bash
# Measures talosmate, beside talosctl if $TALOSCTL names one, and writes the figures into docs/benchmarks.md. Figures are
# medians. The scripts of hack/bench.d are its sections; BENCH_ONLY is a pattern of those to run, and the page is not written
# then. It fails if a figure is above its limit.
#
# Programs are measured as installed ones are: read from disk on demand. Right after linking or copying, the page cache holds
# a file in large pieces, which the kernel counts as resident as a whole, whether the program touches them or not.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
export TALOSMATE_LAB_DIR=$work/lab TALOSCONFIG=$work/lab/talosconfig XDG_STATE_HOME=$work BENCH_ROWS=$work/rows
trap 'talosmate-lab down >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
go build -o "$work/measure" ./hack/measure
load=$(cut -d' ' -f1 /proc/loadavg)

mkdir "$work/bin"
install_fresh() { # install_fresh FROM TO: a copy that the page cache has forgotten
  cp "$1" "$2"
  sync "$2"
  dd if="$2" iflag=nocache count=0 status=none
}
install_fresh bin/talosmate "$work/bin/talosmate"
install_fresh bin/talosmate-lab "$work/bin/talosmate-lab"
[ -z "${TALOSCTL:-}" ] || install_fresh "$TALOSCTL" "$work/bin/talosctl"
PATH=$work/bin:$PATH

section() { # section TITLE TEXT
  printf '\n### %s\n\n%s\n\n| what | talosmate | talosctl | ratio | physical limit | fails above |\n|---|---|---|---|---|---|\n' "$1" "$2" | tee -a "$BENCH_ROWS"
}
row() { "$work/measure" "$@" || touch "$work/failed"; }
talosctl_line() { [ -z "${TALOSCTL:-}" ] || printf 'talosctl %s' "$*"; }
lab() { # lab ARGS...: another cluster
  talosmate-lab down >/dev/null 2>&1 || true
  rm -rf "$TALOSMATE_LAB_DIR"
  talosmate-lab up --detach --dir "$TALOSMATE_LAB_DIR" "$@" >/dev/null
}
addresses() { # addresses N: of the first nodes
  jq -r "[.nodes[].address][0:$1] | join(\",\")" "$TALOSMATE_LAB_DIR/lab.json"
}
seconds() { # seconds COMMAND...: how long it takes
  local start
  start=$(date +%s.%N)
  "$@" >/dev/null
  echo "$(date +%s.%N) $start" | awk '{ printf "%.1f", $1 - $2 }'
}

for script in hack/bench.d/${BENCH_ONLY:-*}.sh; do
  # shellcheck source=/dev/null
  (. "$script") || touch "$work/failed"
done

if [ -z "${BENCH_ONLY:-}" ]; then
  {
    sed '/^<!-- measured -->$/q' docs/benchmarks.md
    printf '\n- CPU: %s, %s cores\n' "$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -1)" "$(nproc)"
    printf -- '- memory: %s GiB\n' "$(awk '/MemTotal/ { printf "%.0f", $2 / 1048576 }' /proc/meminfo)"
    printf -- '- kernel: %s; %s\n' "$(uname -sr | cut -d- -f1)" "$(go version | cut -d' ' -f3)"
    [ -z "${TALOSCTL:-}" ] || printf -- '- talosctl: %s\n' "$("$TALOSCTL" version --client | sed -n 's/^\tTag: *//p')"
    printf -- '- load of other work before the run: %s\n' "$load"
    cat "$BENCH_ROWS"
    printf '\n'
    sed -n '/^<!-- end of what was measured -->$/,$p' docs/benchmarks.md
  } >"$work/page"
  cp "$work/page" docs/benchmarks.md
fi
[ ! -e "$work/failed" ]
