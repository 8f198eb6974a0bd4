#!/usr/bin/env bash
# Runs resnet-dp inside a Slurm allocation; the *.sbatch files here end in it. Not to be started by hand.
#
#   launch.sh [resnet-dp option]...
#
# What it sees to:
#   ranks      --ntasks-per-node ranks on each node with --cpus-per-task cores each, started by mpirun (Open MPI's
#              advice inside Slurm; needs no PMIx) and bound so that each rank has cores of its own
#   data       one copy per node on local disk: a thousand ranks opening one file load a parallel file system's
#              metadata server
#   time limit Slurm sends USR1 ahead of the limit to this shell; it goes to mpirun, which hands it to every rank; they
#              save and end with 75, and the job is queued again to go on where it stopped
#
# Variables: RESNET_DP       the program           (default: build/release/resnet-dp under the root, else from PATH)
#            RESNET_DP_DATA  the data file         (default: cifar10.h5 in the directory of submission)
#            RESNET_DP_RUNS  where runs are kept   (default: runs in the directory of submission)
#            RESNET_DP_ARGS  more options, separated by blanks, before those on the command line
#            RESNET_DP_MAX_RESTARTS  how often a job is queued again (default 100)
#            RESNET_DP_ROOT     the clone             (default: the directory of submission)
#            RESNET_DP_SCRATCH  local disk of a node, for its copy of the data (default: $TMPDIR, else /tmp)
set -u

submitted=${SLURM_SUBMIT_DIR:?this script runs inside a Slurm job: sbatch jobs/slurm/one-node.sbatch}
root=${RESNET_DP_ROOT:-$submitted}
data=${RESNET_DP_DATA:-$submitted/cifar10.h5}
nodes=${SLURM_JOB_NUM_NODES:-1}
ranks_per_node=${SLURM_NTASKS_PER_NODE:-1}
cores=${SLURM_CPUS_PER_TASK:-1}
max_restarts=${RESNET_DP_MAX_RESTARTS:-100}

program=${RESNET_DP:-$root/build/release/resnet-dp}
if [ ! -x "$program" ]; then
    program=$(command -v "${RESNET_DP:-resnet-dp}") || {
        echo "resnet-dp: error: no program at $root/build/release/resnet-dp nor in PATH: build it, or set RESNET_DP" >&2
        exit 2
    }
fi
if [ ! -r "$data" ]; then
    echo "resnet-dp: error: no data file $data: make it with \"resnet-dp prepare\", or set RESNET_DP_DATA" >&2
    exit 2
fi

# The job's number stays the same when it is queued again, so the run goes on in the same directory. Each array task has
# its own.
job=$SLURM_JOB_ID
[ -z "${SLURM_ARRAY_JOB_ID:-}" ] || job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
run=${RESNET_DP_RUNS:-$submitted/runs}/slurm-$job
mkdir -p "$run" || exit 3

# Some sites export this. mpirun starts its daemons by srun, one a node: each would be given the cores of one rank and have
# to bind all ranks of its node to them.
unset SRUN_CPUS_PER_TASK

# mpirun kills its ranks one second after SIGTERM by default: too soon for a save. The two spellings are Open MPI 4's
# and 5's.
export OMPI_MCA_odls_base_sigkill_timeout=25 PRTE_MCA_odls_base_sigkill_timeout=25

# Networks that lead nowhere (docker0, virbr0) can hang MPI and NCCL at start. If that happens, name those of your
# nodes:
# export OMPI_MCA_btl_tcp_if_exclude=lo,docker0
# export OMPI_MCA_oob_tcp_if_exclude=lo,docker0 PRTE_MCA_prte_if_exclude=lo,docker0
# export NCCL_SOCKET_IFNAME=^docker0,lo

on_each_node() {
    if [ "$nodes" -gt 1 ]; then
        srun --ntasks="$nodes" --ntasks-per-node=1 --cpus-per-task=1 "$@"
    else
        "$@"
    fi
}

scratch=${RESNET_DP_SCRATCH:-${TMPDIR:-/tmp}}/resnet-dp-$SLURM_JOB_ID
# shellcheck disable=SC2317 # called by the trap, too
clean() {
    trap - EXIT
    on_each_node rm -rf "$scratch"
}
trap clean EXIT
on_each_node mkdir -p "$scratch" || exit 3
if [ "$nodes" -gt 1 ]; then
    sbcast --force "$data" "$scratch/cifar10.h5" || exit 3
else
    cp "$data" "$scratch/cifar10.h5" || exit 3
fi

read -r -a arguments <<<"${RESNET_DP_ARGS:-}"
echo "job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)): $nodes nodes x $ranks_per_node ranks x $cores cores, in $run"

mpirun_pid=""
signalled=no
# shellcheck disable=SC2317 # called by the trap
forward() {
    signalled=yes
    echo "job $job: time is nearly up; the ranks save and stop"
    [ -z "$mpirun_pid" ] || kill -USR1 "$mpirun_pid" 2>/dev/null
}
trap forward USR1 TERM

# mpirun runs in the background because bash handles signals only between foreground commands.
mpirun -np $((nodes * ranks_per_node)) --map-by "ppr:$ranks_per_node:node:PE=$cores" --bind-to core \
    "$program" --data "$scratch/cifar10.h5" --run-dir "$run" --resume auto ${arguments[@]+"${arguments[@]}"} "$@" &
mpirun_pid=$!

# A signal ends `wait` before mpirun does; then wait again. 127: it had ended already, and the status is known.
status=0
while :; do
    signalled=no
    wait "$mpirun_pid"
    code=$?
    [ "$code" -eq 127 ] || status=$code
    [ "$signalled" = yes ] || break
done

if [ "$status" -eq 75 ]; then
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$max_restarts" ]; then
        echo "resnet-dp: error: job $job was started again $max_restarts times already (RESNET_DP_MAX_RESTARTS)" >&2
    else
        echo "job $job: saved; queued again"
        clean # requeueing ends this script, perhaps before its next line
        scontrol requeue "$SLURM_JOB_ID"
    fi
fi
exit "$status"
