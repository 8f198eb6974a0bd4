#!/usr/bin/env bash
# One rank stops, loops, dies or disagrees: the job ends by itself, soon, with one message and the right exit code. A rank that
# is only slow, or was stopped for a moment, ends nothing.
# labels: long
set -u
probe=$PROBE_DIR/watchdog-probe
mpiexec=${MPIEXEC:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

# expect NAME RANKS MODE TIMEOUT MAX_SECONDS EXIT_CODE MESSAGES [TEXT]...: messages counts lines of ours on stderr.
expect() {
    local name=$1 ranks=$2 mode=$3 timeout=$4 max=$5 code=$6 messages=$7
    shift 7
    local begin=$SECONDS got seconds said
    timeout 120 "$mpiexec" -np "$ranks" "$probe" "$mode" "$timeout" >"$work/out" 2>"$work/err"
    got=$?
    seconds=$((SECONDS - begin))
    said=$(grep -c '^resnet-dp: error: ' "$work/err")
    local problem=""
    [ "$got" -eq "$code" ] || problem+=" exit code $got, not $code;"
    [ "$seconds" -le "$max" ] || problem+=" took $seconds s, not <= $max;"
    [ "$said" -eq "$messages" ] || problem+=" $said messages, not $messages;"
    local text
    for text in "$@"; do
        grep -q -e "$text" "$work/err" || problem+=" no \"$text\";"
    done
    if [ -n "$problem" ]; then
        echo "FAIL $name:$problem"
        cat "$work/out" "$work/err"
        failures=$((failures + 1))
    else
        echo "ok   $name ($seconds s): $(grep '^resnet-dp: error: ' "$work/err")"
    fi
}

# Time-outs are long enough for a loaded machine not to look dead; the limits only tell "soon" from "never".
expect "all well" 2 none 20 60 0 0
expect "stopped" 2 stop 3 60 5 1 "rank 1 (pid" "has not run for" "is stopped" "backward of step 2" "all-reduce of bucket 1"
expect "stopped, four ranks" 4 stop 3 60 5 1 "rank 1 (pid" "is stopped"
expect "stopped while others wait patiently" 3 patient-stop 3 60 5 1 "rank 1 (pid" "is stopped" "evaluation of rank 1"
expect "endless loop" 3 loop 3 60 5 1 "rank 1 (pid" "is still in backward of step 2" "without progress"
expect "different calls" 2 differ 3 60 5 1 "none of them is late" "ranks disagree"
expect "killed" 2 kill 100 60 137 0
expect "slow, but moving" 2 slow 4 60 0 0
expect "patient wait" 2 patient 5 60 0 0
expect "stopped for a moment" 2 pause 6 60 0 0
expect "no watchdog" 2 none 0 60 0 0
exit $((failures > 0))
