#!/usr/bin/env bash
# Everything to be run on a machine with a GPU and no network, in parts of minutes that run one by one and in any order.
#
#   bench/gpu-session.sh PART [PROGRAMS]
#
#     1   resnet-dp info, then the gpu tests
#     2   speed against PyTorch: bench/gpu.py; adds to the results of earlier calls, so BATCHES=128 and so on may be calls of
#         their own                                                      (BATCHES, PRECISIONS, PAIRS)
#     3   basic-2111 on the real data to its accuracy, with wall time    (CIFAR10_DIR; EPOCHS, TRAIN_OPTIONS)
#     4   two ranks on one GPU, gradients through MPI: same losses as one rank; communication exposed and hidden
#     5   compute-sanitizer over the gpu tests                           (SANITIZER_TOOLS)
#     6   nsys profile of a few steps, where nsys is
#     7   PyTorch: its steps against the references
#     8   PyTorch trained as in part 3                                   (CIFAR10_DIR; EPOCHS, PEER_VARIANT)
#
# PROGRAMS is a build folder (default build/release) or a folder of programs made elsewhere: resnet-dp and the tests in it or in
# its bin/; an env.sh in it is sourced first. Logs, one per command, and session.txt with the times and exit codes of all go
# to $OUT (default ./out), large files to $WORK (default under $TMPDIR or /tmp).
#
# Environment: OUT, WORK, LIMIT (seconds that one command may take, 570), PYTHON (python3; parts 2, 7 and 8: with PyTorch), MPIRUN,
# GPU_TESTS (patterns of test programs), and what the parts name. Exit code: 0, 1 if a command failed, 2 for wrong usage,
# 77 if the part lacks what it needs.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
part=${1:-}
programs=${2:-$root/build/release}
out=${OUT:-$PWD/out}
work=${WORK:-${TMPDIR:-/tmp}/resnet-dp-gpu-$(id -u)}
python=${PYTHON:-python3}
mpirun=${MPIRUN:-mpirun}
recipe=$root/jobs/recipes/basic-2111.ini
failures=0

say() { echo "gpu-session.sh: $*" >&2; }

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
    exit 2
}

case $part in [1-8]) ;; *) usage ;; esac
[ -d "$programs" ] || { say "no folder $programs: build, or name the folder of the programs"; exit 2; }
programs=$(cd "$programs" && pwd)
if [ -d /usr/local/cuda/bin ]; then PATH=$PATH:/usr/local/cuda/bin; fi # compute-sanitizer, nsys
mkdir -p "$out" "$work"
out=$(cd "$out" && pwd)
if [ -f "$programs/env.sh" ]; then
    set +eu # written for interactive shells
    # shellcheck disable=SC1091
    . "$programs/env.sh"
    set -eu
fi
program=
for candidate in "$programs/resnet-dp" "$programs/bin/resnet-dp"; do
    if [ -x "$candidate" ]; then program=$candidate; fi
done
[ -n "$program" ] || { say "no resnet-dp in $programs or its bin/"; exit 2; }

export RESNET_DP=$program SOURCE_DIR=$root
export TORCHINDUCTOR_CACHE_DIR=$work/inductor # what one part compiled and tuned, the next need not
if [ "$(id -u)" -eq 0 ]; then # Open MPI 4 and 5 refuse to start for root unless told twice
    export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
    export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe

# record NAME COMMAND...: runs it with its output in NAME.log and on the terminal; notes time and exit code. Goes on after a
# failure, which the exit code of the whole script tells. 77 is a skip.
record() {
    local name=$1 begin status=0
    shift
    begin=$(date +%s.%N)
    {
        echo "\$ $*"
        if [ "$(type -t "$1")" = function ]; then
            "$@" 2>&1 || status=$?
        else
            timeout "${LIMIT:-570}" "$@" 2>&1 || status=$?
        fi
        echo "exit code $status"
    } > >(tee "$out/$name.log") 2>&1
    wait "$!" || true # for tee, so that the log is whole
    awk -v name="$name" -v status="$status" -v begin="$begin" -v end="$(date +%s.%N)" 'BEGIN {
            printf "%-28s exit code %-3d %8.1f s\n", name, status, end - begin
        }' | tee -a "$out/session.txt" >&2
    case $status in
    0 | 77) ;;
    *) failures=$((failures + 1)) ;;
    esac
}

# The gpu test programs, one path a line.
gpu_tests() {
    local patterns pattern file
    read -r -a patterns <<<"${GPU_TESTS:-gpu-* test-devices test-*cuda*}"
    for pattern in "${patterns[@]}"; do
        for file in "$programs/"$pattern "$programs/bin/"$pattern "$programs/tests/"$pattern; do
            if [ -f "$file" ] && [ -x "$file" ]; then echo "$file"; fi
        done
    done | sort -u
}

need_tests() {
    mapfile -t tests < <(gpu_tests)
    if [ ${#tests[@]} -eq 0 ]; then
        say "no gpu test program in $programs (GPU_TESTS says which names they have)"
        exit 77
    fi
}

# The data set file: of the real images where CIFAR10_DIR names them, else of synthetic ones.
prepare_data() {
    if [ -n "${CIFAR10_DIR:-}" ]; then
        data=$work/cifar10.h5
        record prepare "$program" prepare --from "$CIFAR10_DIR" --out "$data"
    else
        data=$work/synthetic.h5
        record prepare "$program" prepare --synthetic --out "$data"
    fi
    [ -f "$data" ] || { say "no data set file: see $out/prepare.log"; exit 1; }
}

need_images() {
    if [ -z "${CIFAR10_DIR:-}" ]; then
        say "this part needs CIFAR10_DIR, the folder of the official CIFAR-10 binaries"
        exit 77
    fi
}

part_1() {
    local test script
    record info "$program" info
    if [ -f "$programs/CTestTestfile.cmake" ] && command -v ctest >/dev/null; then
        record ctest-gpu ctest --test-dir "$programs" -L gpu --output-on-failure
        return
    fi
    need_tests
    for test in "${tests[@]}"; do
        record "test-$(basename "$test")" "$test"
    done
    for script in "$root"/tests/gpu-*.sh; do
        MPIEXEC=$mpirun record "test-$(basename "$script" .sh)" bash "$script"
    done
}

part_2() {
    record compare "$python" "$root/bench/gpu.py" --python "$python" --recipe "$recipe" --pairs "${PAIRS:-3}" \
        --batches "${BATCHES:-128,512,2048}" --precisions "${PRECISIONS:-bf16}" --out "$out/gpu-compare.json"
}

part_3() {
    local options
    need_images
    prepare_data
    read -r -a options <<<"${TRAIN_OPTIONS:-}"
    if [ -n "${EPOCHS:-}" ]; then options+=(--epochs "$EPOCHS"); fi
    rm -rf "$work/run-accuracy"
    record train-accuracy "$program" train --recipe "$recipe" --data "$data" --device cuda --precision bf16 \
        --run-dir "$work/run-accuracy" "${options[@]}"
    for file in metrics.csv timing.csv summary.json recipe.ini accuracy.svg; do
        if [ -f "$work/run-accuracy/$file" ]; then cp "$work/run-accuracy/$file" "$out/accuracy-$file"; fi
    done
}

# steps NAME COMM COMMAND...: twenty steps in fp32 with batch-norm over all ranks, where ranks change nothing but rounding.
steps() {
    local name=$1 comm=$2
    shift 2
    rm -rf "$work/run-$name"
    record "train-$name" "$@" train --recipe "$recipe" --data "$data" --device cuda --precision fp32 --sync-bn yes \
        --max-steps 20 --step-log yes --plot no --checkpoint-epochs 0 --evaluate-every 0 --comm "$comm" --run-dir "$work/run-$name"
}

# Losses of one and of two ranks: the first ten within 1e-3, after which rounding may have moved an activation over ReLU's kink.
compare_steps() {
    paste -d , "$work/run-one/steps.csv" "$work/run-two/steps.csv" | awk -F , '
        NR == 1 { for (i = 1; i <= NF / 2; i++) if ($i ~ /loss/) column = i; half = NF / 2; next }
        NR <= 11 {
            off = $(column + half) / $column - 1
            if (off < 0) off = -off
            if (off > worst) worst = off
            count++
        }
        END {
            printf "losses of one and two ranks: %d steps, worst relative difference %.2e\n", count, worst
            exit !(column && count == 10 && worst <= 1e-3)
        }'
}

part_4() {
    local reducer
    command -v "$mpirun" >/dev/null || { say "no $mpirun"; exit 77; }
    prepare_data
    steps one auto "$program"
    steps two mpi "$mpirun" -np 2 "$program"
    record compare-steps compare_steps
    for reducer in "$programs"/test-reducer* "$programs"/bin/test-reducer* "$programs"/tests/test-reducer*; do
        if [ -f "$reducer" ] && [ -x "$reducer" ]; then
            record "two-$(basename "$reducer")" "$mpirun" -np 2 "$reducer"
        fi
    done
    record bench-two-ranks "$mpirun" -np 2 "$program" bench --recipe "$recipe" --device cuda --precision bf16 --comm mpi \
        --batch 512 --json "$out/bench-two-ranks.json"
}

part_5() {
    local test tool tools
    command -v compute-sanitizer >/dev/null || { say "no compute-sanitizer on PATH"; exit 77; }
    need_tests
    read -r -a tools <<<"${SANITIZER_TOOLS:-memcheck racecheck}"
    for tool in "${tools[@]}"; do
        for test in "${tests[@]}"; do
            record "$tool-$(basename "$test")" compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 "$test"
        done
    done
}

part_6() {
    command -v nsys >/dev/null || { say "no nsys on PATH"; exit 77; }
    prepare_data
    rm -rf "$work/run-profile"
    record nsys nsys profile --trace cuda,nvtx,cudnn --cuda-graph-trace node --capture-range cudaProfilerApi \
        --force-overwrite true --output "$out/profile" "$program" train --recipe "$recipe" --data "$data" --device cuda --precision bf16 \
        --batch 512 --max-steps 60 --profile-steps 41:50 --plot no --checkpoint-epochs 0 --evaluate-every 0 --run-dir "$work/run-profile"
    record nsys-stats nsys stats --report cuda_gpu_kern_sum --report nvtx_sum "$out/profile.nsys-rep"
}

part_7() {
    local reference
    for reference in basic bottleneck; do
        record "peer-check-$reference" "$python" "$root/bench/peers/ddp.py" --check "$root/tests/reference/$reference.ref" \
            --variant eager,graph-eager,graph-compile,max-autotune
    done
}

part_8() {
    need_images
    record peer-accuracy "$python" "$root/bench/peers/ddp.py" --train --data "$CIFAR10_DIR" --epochs "${EPOCHS:-70}" \
        --variant "${PEER_VARIANT:-graph-max-autotune}"
}

"part_$part"
if ((failures > 0)); then
    say "part $part: $failures command(s) failed; logs in $out"
    exit 1
fi
say "part $part: done; logs in $out"
