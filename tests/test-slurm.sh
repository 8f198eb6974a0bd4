#!/usr/bin/env bash
# The Slurm scripts with stand-ins for mpirun and scontrol (no Slurm here): what is started, that USR1 reaches the ranks, that
# 75 and nothing else queues the job again, and that a job queued again goes on in the same directory.
set -u
source_dir=${SOURCE_DIR:?}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin" "$work/tmp"
echo data >"$work/cifar10.h5"

# Writes down its words; then ends with FAKE_STATUS, or waits for USR1 and ends with 75.
cat >"$work/bin/mpirun" <<'EOF'
#!/usr/bin/env bash
printf '%s\n' "$@" >"$WORK/mpirun.words"
trap 'sleep 0.5; exit 75' USR1
touch "$WORK/started"
[ -z "${FAKE_STATUS:-}" ] || exit "$FAKE_STATUS"
for _ in $(seq 300); do sleep 0.1; done
exit 99
EOF
cat >"$work/bin/scontrol" <<'EOF'
#!/usr/bin/env bash
echo "$@" >>"$WORK/scontrol.words"
EOF
printf '#!/bin/sh\n' >"$work/bin/resnet-dp"
chmod +x "$work"/bin/*
export WORK=$work PATH=$work/bin:$PATH TMPDIR=$work/tmp RESNET_DP=$work/bin/resnet-dp RESNET_DP_ROOT=$source_dir
export SLURM_SUBMIT_DIR=$work SLURM_JOB_ID=77 SLURM_JOB_NUM_NODES=1 SLURM_NTASKS_PER_NODE=4 SLURM_CPUS_PER_TASK=8
failures=0

check() { # check WHAT COMMAND...
    local what=$1
    shift
    if "$@"; then
        echo "ok   $what"
    else
        echo "FAIL $what: $*"
        cat "$work/log" "$work/mpirun.words" 2>/dev/null
        failures=$((failures + 1))
    fi
}
# shellcheck disable=SC2317 # called through check
words_in_order() { # words_in_order "a b c": these words of mpirun, one after the other
    [[ " $(tr '\n' ' ' <"$work/mpirun.words")" == *" $1 "* ]]
}
start() { # start SCRIPT [ARGUMENT]...: runs it to its end
    rm -f "$work/scontrol.words" "$work/started"
    bash "$@" >"$work/log" 2>&1
    status=$?
}

FAKE_STATUS=0 RESNET_DP_ARGS="--seed 3" start "$source_dir/jobs/slurm/one-node.sbatch" --epochs 2
check "a finished job ends with 0" [ "$status" -eq 0 ]
check "it is not queued again" [ ! -e "$work/scontrol.words" ]
check "ranks and cores" words_in_order "-np 4 --map-by ppr:4:node:PE=8 --bind-to core $RESNET_DP"
check "data on the node, run directory, resume, options" words_in_order \
    "--data $work/tmp/resnet-dp-77/cifar10.h5 --run-dir $work/runs/slurm-77 --resume auto --seed 3 --epochs 2"
check "the node's copy is removed" [ ! -e "$work/tmp/resnet-dp-77" ]

FAKE_STATUS=5 start "$source_dir/jobs/slurm/one-node.sbatch"
check "a failed job keeps its code" [ "$status" -eq 5 ]
check "a failed job is not queued again" [ ! -e "$work/scontrol.words" ]

for signal in USR1 TERM; do
    rm -f "$work/scontrol.words" "$work/started"
    bash "$source_dir/jobs/slurm/one-node.sbatch" >"$work/log" 2>&1 &
    script=$!
    for _ in $(seq 100); do
        [ -e "$work/started" ] && break
        sleep 0.1
    done
    kill -s "$signal" "$script"
    wait "$script"
    status=$?
    check "$signal: saved and stopped" [ "$status" -eq 75 ]
    check "$signal: queued again" [ "$(cat "$work/scontrol.words")" = "requeue 77" ]
done
SLURM_RESTART_COUNT=3 FAKE_STATUS=75 RESNET_DP_MAX_RESTARTS=3 start "$source_dir/jobs/slurm/one-node.sbatch"
check "not for ever" [ ! -e "$work/scontrol.words" ]

export SLURM_ARRAY_JOB_ID=70
SLURM_ARRAY_TASK_ID=2 FAKE_STATUS=0 start "$source_dir/jobs/slurm/array-batch-size.sbatch" --recipe r.ini
check "an array task has its batch size" words_in_order "--lr-scaling linear --recipe r.ini --batch 256"
check "and its own directory" words_in_order "--run-dir $work/runs/slurm-70_2"
SLURM_ARRAY_TASK_ID=9 FAKE_STATUS=0 start "$source_dir/jobs/slurm/array-batch-size.sbatch"
check "an array task without one is refused" [ "$status" -eq 2 ]
unset SLURM_ARRAY_JOB_ID

RESNET_DP_DATA=$work/none.h5 FAKE_STATUS=0 start "$source_dir/jobs/slurm/one-node.sbatch"
check "no data file" [ "$status" -eq 2 ]
check "and the message says what to do" grep -q 'resnet-dp prepare' "$work/log"

# Several nodes: srun and sbcast prepare each.
cat >"$work/bin/srun" <<'EOF'
#!/usr/bin/env bash
echo "${0##*/} $*" >>"$WORK/steps"
EOF
cp "$work/bin/srun" "$work/bin/sbcast"
chmod +x "$work/bin/srun" "$work/bin/sbcast"
SLURM_JOB_NUM_NODES=3 FAKE_STATUS=0 start "$source_dir/jobs/slurm/multi-node.sbatch"
check "several nodes: ranks" words_in_order "-np 12 --map-by ppr:4:node:PE=8"
check "several nodes: data to each" grep -q "^sbcast --force $work/cifar10.h5 $work/tmp/resnet-dp-77/cifar10.h5" "$work/steps"
check "several nodes: removed from each" grep -q "^srun --ntasks=3 .* rm -rf $work/tmp/resnet-dp-77" "$work/steps"
exit $((failures > 0))
