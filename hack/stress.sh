#!/usr/bin/env bash
# Runs each scenario many times on a machine that is busy with something else, and lists those that failed.
#
#   STRESS_COUNT  how often each one runs (20)
#   STRESS_LOAD   how many processes keep the processors busy meanwhile (two for each processor)
#   STRESS_RUN    a regular expression for the names of those that run: of a file in test/scripts, or of a test (all)
#   STRESS_JOBS   how many run at the same time (one for each processor)
#   STRESS_BIN    a folder with talosmate, talosmate-lab and the test's program, as an earlier run has left them (built)
#
# The output of each run that failed stays in the folder that is named at the end.
set -euo pipefail
cd "$(dirname "$0")/.."

count=${STRESS_COUNT:-20} load=${STRESS_LOAD:-$(($(nproc) * 2))} pattern=${STRESS_RUN:-.} jobs=${STRESS_JOBS:-$(nproc)}
bin=${STRESS_BIN:-}
logs=$(mktemp -d "${TMPDIR:-/tmp}/talosmate-stress-XXXXXX")

if [ -z "$bin" ]; then
  bin=$logs/bin
  mkdir "$bin"
  go build -o "$bin" ./cmd/talosmate
  go build -C lab -o "$bin" ./cmd/talosmate-lab
  go test -c -o "$bin/scenarios" ./test
fi

busy=()
cleanup() {
  if [ ${#busy[@]} -gt 0 ]; then
    kill "${busy[@]}" 2>/dev/null || true
  fi
}
trap cleanup EXIT

for _ in $(seq "$load"); do
  (while :; do :; done) &
  busy+=($!)
done

# A chosen seed, pictures and measured tasks say nothing about timing.
{
  for file in test/scripts/*.txtar; do
    basename "$file" .txtar
  done
  TALOSMATE_TEST_BIN=$bin "$bin/scenarios" -test.list '^Test' | grep -Ev '^(TestScripts|TestChaos|TestScreenshots|TestAgentTasks|TestRelease)$'
} | grep -E -- "$pattern" >"$logs/names"

# one NAME runs it count times, and writes a line with the number of failures.
one() {
  name=$1 failed=0
  case $name in
  Test*) run="^$name\$" ;;
  *) run="^TestScripts\$/^$name\$" ;;
  esac
  for i in $(seq "$STRESS_COUNT"); do
    if ! (cd test && TALOSMATE_TEST_BIN=$STRESS_BIN "$STRESS_BIN/scenarios" -test.run "$run" -test.timeout 20m) >"$STRESS_LOGS/$name.$i.log" 2>&1; then
      failed=$((failed + 1))
    else
      rm "$STRESS_LOGS/$name.$i.log"
    fi
  done
  printf '%3s of %s failed: %s\n' "$failed" "$STRESS_COUNT" "$name"
}
export -f one
export STRESS_COUNT=$count STRESS_BIN=$bin STRESS_LOGS=$logs

xargs -P "$jobs" -I NAME bash -c 'one NAME' <"$logs/names" | tee "$logs/table"

if grep -qv '^  0 ' "$logs/table"; then
  echo "the output of the runs that failed is in $logs" >&2
  exit 1
fi

rm -r "$logs"
