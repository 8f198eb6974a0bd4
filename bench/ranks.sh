#!/usr/bin/env bash
# One process with THREADS threads against `mpirun -np THREADS` with one thread each: same network, same global batch,
# alternating runs, medians and their ratio. What is lost is the price of communication.
#
#   bench/ranks.sh [PAIRS] [PRECISION]...        default: 5 pairs, fp32 and bf16
#
# Environment: RESNET_DP (build/release/resnet-dp), THREADS (2), BATCH (128), STEPS (8), REPEATS (3), RECIPE, MPIRUN (mpirun),
# MPIRUN_FLAGS (more words for it, such as --bind-to none).
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
program=${RESNET_DP:-$root/build/release/resnet-dp}
recipe=${RECIPE:-$root/jobs/recipes/basic-2111.ini}
threads=${THREADS:-2}
mpirun=${MPIRUN:-mpirun}
pairs=${1:-5}
shift || true
precisions=("$@")
[ ${#precisions[@]} -gt 0 ] || precisions=(fp32 bf16)
read -r -a flags <<<"${MPIRUN_FLAGS:-}"

case $pairs in
'' | *[!0-9]*) echo "ranks.sh: PAIRS is a number, not '$pairs'" >&2; exit 2 ;;
esac
if [ ! -x "$program" ]; then
    echo "ranks.sh: no program at $program: build it, or set RESNET_DP to its path" >&2
    exit 2
fi
if [ "$(id -u)" -eq 0 ]; then # Open MPI 4 and 5 refuse to start for root unless told twice
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# measure NAME PRECISION COMMAND...: runs it, appends its images/s to $work/NAME.
measure() {
    local name=$1 precision=$2
    shift 2
    if ! "$@" bench --recipe "$recipe" --precision "$precision" --batch "${BATCH:-128}" --steps "${STEPS:-8}" \
        --repeats "${REPEATS:-3}" --json "$work/bench.json" >"$work/log" 2>&1; then
        cat "$work/log" >&2
        echo "ranks.sh: failed: $*" >&2
        exit 1
    fi
    awk 'match($0, /"images_per_second"[ \t]*:[ \t]*[0-9.eE+-]+/) {
             text = substr($0, RSTART, RLENGTH); sub(/.*:[ \t]*/, "", text); print text; found = 1; exit
         }
         END { exit !found }' "$work/bench.json" >>"$work/$name" ||
        { echo "ranks.sh: no images_per_second in the program's JSON" >&2; exit 1; }
    echo "$precision  $name: $(tail -n 1 "$work/$name") images/s" >&2
}

one() { measure one "$1" env OMP_NUM_THREADS="$threads" "$program"; }
many() { measure many "$1" env OMP_NUM_THREADS=1 "$mpirun" -np "$threads" "${flags[@]}" "$program"; }

for precision in "${precisions[@]}"; do
    rm -f "$work/one" "$work/many"
    for ((pair = 0; pair < pairs; pair++)); do
        if ((pair % 2 == 0)); then one "$precision"; many "$precision"; else many "$precision"; one "$precision"; fi
    done
    sort -g "$work/one" >"$work/one.sorted"
    sort -g "$work/many" >"$work/many.sorted"
    paste "$work/one.sorted" "$work/many.sorted" | awk -v n="$threads" -v precision="$precision" '
        function median(v) { return NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }
        { a[NR] = $1; b[NR] = $2 }
        END {
            printf "%s  1 process x %d threads %.1f images/s (%.1f..%.1f)   %d ranks x 1 thread %.1f images/s (%.1f..%.1f)   ratio %.3f\n",
                   precision, n, median(a), a[1], a[NR], n, median(b), b[1], b[NR], median(b) / median(a)
        }'
done
