#!/usr/bin/env bash
# Training on CUDA devices: the CPU's losses, what is recorded equals what is not, a resumed run equals a straight one, NCCL
# equals MPI, several ranks equal one, and what cannot be had is refused. With a GPU, and once more with CUDA emulated
# (tests/emulation/), where nothing is skipped. Exit 77 without a GPU.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
# All runs take their convolution plans from one file: plans that were timed anew might be others, and round in other ways.
export RDP_EMULATION_DEVICES=4 XDG_CACHE_HOME=$work/cache
unset NCCL_MULTI_RANK_GPU_ENABLE

listed=$(cd "$work" && "$RESNET_DP" info 2>/dev/null)
devices=$(grep -c '^  cuda [0-9]' <<<"$listed")
if [ "$devices" -eq 0 ]; then
    echo "skipped: resnet-dp info lists no CUDA device"
    rm -rf "$work"
    exit 77
fi
emulated=0
grep -q '^  cuda 0 .*emulated' <<<"$listed" && emulated=1
# A GPU's libraries are loaded at every start, and the first run times its convolutions.
[ "$emulated" -eq 1 ] || run_limit=240
precisions=(fp32 bf16)
grep -Eq '^  cuda 0 .*compute [0-7]\.' <<<"$listed" && precisions=(fp32)
low=${precisions[-1]}
prepare 80 20

# visible COUNT: only the first of the devices are there.
all_devices=${CUDA_VISIBLE_DEVICES:-$(seq -s, 0 $((devices - 1)))}
visible() {
    CUDA_VISIBLE_DEVICES=$(tr , '\n' <<<"$all_devices" | head -n "$1" | paste -sd,)
    export CUDA_VISIBLE_DEVICES RDP_EMULATION_DEVICES=$1
}

# on_devices COUNT, only_emulated: whether the case can run here; skips it if not.
on_devices() {
    [ "$devices" -ge "$1" ] || {
        skip "needs $1 CUDA devices, and here are $devices"
        return 1
    }
}

only_emulated() {
    [ "$emulated" -eq 1 ] || {
        skip "only an emulated device can be told to fail"
        return 1
    }
}

# Ten steps an epoch. The emulation runs a GPU's threads one after the other.
# shellcheck disable=SC2054
gpu=(--data data.h5 --run-dir run --blocks 1,1 --widths 8,16 --stem-width 8 --batch 8 --lr 0.02 --threads 1 --no-plot --no-progress
    --step-log --device cuda)

# near A B: the losses of all steps of two fp32 runs. Ten steps at this rate make 2e-5 of f32's rounding and 5e-4 of tf32's;
# gradients of half their size make 2e-2.
near() {
    paste -d, "$1/run/steps.csv" "$2/run/steps.csv" | awk -F, '
        NR > 1 { d = ($3 - $6) / $3; if (d < 0) d = -d; if (d > worst) worst = d; if (d > 1e-3 || $1 != $4) bad = bad " " $1; n++ }
        END { if (n < 10 || bad != "") { print "steps" bad " of " n ", at worst " worst; exit 1 } }' >near.txt ||
        fault "$1 and $2 differ in $(cat near.txt)"
}

# Widths for which oneDNN has kernels: its reference code takes half a minute here.
begin "CUDA against the CPU, fp32"
in_dir cuda run 0 0 "${gpu[@]}" --epochs 1 --widths 16,32 --stem-width 16
grep -q "^Device      .*CUDA" cuda/out || fault "the banner does not name the CUDA device"
in_dir cpu run 0 0 "${gpu[@]}" --epochs 1 --widths 16,32 --stem-width 16 --device cpu
near cuda cpu
in_dir auto run 0 0 "${gpu[@]}" --epochs 1 --widths 16,32 --stem-width 16 --device auto
equal cuda auto steps.csv metrics.csv
# The emulation has no plans to keep.
[ "$emulated" -eq 1 ] || [ -s "$XDG_CACHE_HOME/resnet-dp/convolutions" ] || fault "no plans in XDG_CACHE_HOME"

begin "recorded steps equal steps run as they are"
for precision in "${precisions[@]}"; do
    in_dir "yes-$precision" run 0 0 "${gpu[@]}" --epochs 2 --precision "$precision" --nesterov --label-smoothing 0.1
    in_dir "no-$precision" run 0 0 "${gpu[@]}" --epochs 2 --precision "$precision" --nesterov --label-smoothing 0.1 --graph no --report-every 3
    equal "yes-$precision" "no-$precision" steps.csv metrics.csv
done
adaptive=("${gpu[@]}" --epochs 2 --precision "$low" --optimizer adamw --lr 0.002 --lookahead 3 --ema 0.8 --clip-norm 1)
in_dir adaptive run 0 0 "${adaptive[@]}"
in_dir adaptive-no run 0 0 "${adaptive[@]}" --graph no --report-every 3
equal adaptive adaptive-no steps.csv metrics.csv
in_dir accumulate run 0 0 "${gpu[@]}" --epochs 1 --accumulate 2
in_dir accumulate-no run 0 0 "${gpu[@]}" --epochs 1 --accumulate 2 --graph no
equal accumulate accumulate-no steps.csv metrics.csv

begin "stop and resume"
in_dir straight run 0 0 "${gpu[@]}" --epochs 3 --precision "$low" --resume auto
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision "$low" --resume auto --max-steps 13
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision "$low" --resume auto --checkpoint-steps 7 --max-steps 22
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision "$low" --resume auto
equal straight parts steps.csv metrics.csv checkpoints/ckpt-e0003-s0000030.h5
in_dir kept run 0 0 "${adaptive[@]}" --resume auto
in_dir kept-parts run 0 0 "${adaptive[@]}" --resume auto --max-steps 13
in_dir kept-parts run 0 0 "${adaptive[@]}" --resume auto
equal kept kept-parts steps.csv metrics.csv checkpoints/ckpt-e0002-s0000020.h5
in_dir signal start 0 "${gpu[@]}" --epochs 10000
await "$run_limit" has_rows signal/run/steps.csv 12 || fault "no step 11 within $run_limit s"
kill -USR1 "$process"
finish 60 75

for ranks in 2 4; do
    begin "$ranks ranks: NCCL equals MPI, and several equal one"
    if on_devices "$ranks"; then
        in_dir np1 run 0 0 "${gpu[@]}" --epochs 1 --sync-bn
        in_dir nccl run 0 "$ranks" "${gpu[@]}" --epochs 1 --sync-bn
        grep -q "^Gradients .*NCCL" nccl/out || fault "$ranks ranks do not use NCCL"
        in_dir mpi run 0 "$ranks" "${gpu[@]}" --epochs 1 --sync-bn --comm mpi
        grep -q "^Gradients .*staged" mpi/out || fault "$ranks ranks do not stage"
        near nccl mpi # NCCL adds in an order of its own
        [ "$emulated" -eq 0 ] || equal nccl mpi steps.csv metrics.csv
        near np1 nccl
    fi
done

begin "overlapped sums equal sums after the backward pass"
if on_devices 2; then
    in_dir late run 0 2 "${gpu[@]}" --epochs 1 --bucket-mb 0.001 --overlap no
    in_dir early run 0 2 "${gpu[@]}" --epochs 1 --bucket-mb 0.001
    equal late early steps.csv
fi

begin "several ranks on one GPU"
visible 1
in_dir np1 run 0 0 "${gpu[@]}" --epochs 1 --sync-bn
in_dir shared run 0 2 "${gpu[@]}" --epochs 1 --sync-bn
grep -q "^Gradients .*staged" shared/out || fault "--comm auto does not take MPI"
grep -q "ranks 0 and 1 .*both drive GPU" shared/out || fault "the banner does not say that they share"
near np1 shared
run 2 2 "${gpu[@]}" --epochs 1 --comm nccl --run-dir other
said 1 "error: .*--comm nccl: several ranks drive one GPU"
visible "$devices"

begin "no GPU"
visible 0
run 2 0 "${gpu[@]}" --epochs 1
said 1 "error: --device cuda: "
run 0 0 "${gpu[@]}" --epochs 1 --device auto --blocks 1 --widths 16 --stem-width 16
grep -q "^Device      CPU" out || fault "--device auto does not take the CPU"
run 2 0 "${gpu[@]}" --epochs 1 --device auto --profile-steps 2:3 --run-dir other
said 1 "error: --profile-steps: "
visible "$devices"

begin "a rank that is killed"
start 2 "${gpu[@]}" --epochs 10000 --comm-timeout 30
await "$run_limit" has_rows run/steps.csv 12 || fault "no step 11 within $run_limit s"
kill -KILL "$(rank_process 1)"
finish 60 any

begin "a sum that never ends, a sum that fails"
if only_emulated; then
    RDP_EMULATION_NCCL_HANG=20@1 run 5 2 "${gpu[@]}" --epochs 300 --comm-timeout 5 --run-dir hang
    grep -Eq "resnet-dp: error: .*rank [01]: the GPU has not come on for .*in all-reduce of bucket [0-9]+ \(training" err ||
        fault "the message does not say where the GPU is stuck"
    RDP_EMULATION_NCCL_FAIL=20@1 run 5 2 "${gpu[@]}" --epochs 300 --comm-timeout 5 --run-dir fail
    grep -q "resnet-dp: error: .*NCCL" err || fault "the message does not name NCCL"
fi

# Rank 1 fails while it plans, rank 0 does not: neither may wait for the other in what comes next.
begin "a GPU that has too little memory, on one of two ranks"
if only_emulated; then
    # shellcheck disable=SC2016 # for the script to expand
    printf '#!/bin/sh\n[ "$OMPI_COMM_WORLD_RANK" != 1 ] || export RDP_EMULATION_MEMORY=600000\nexec "%s" "$@"\n' "$RESNET_DP" >limited
    chmod +x limited
    RESNET_DP=$PWD/limited run 7 2 "${gpu[@]}" --epochs 1
    said 1 "error:"
    said 1 "error: .*rank 1 .*GPU memory"
fi

begin "eval on the device"
in_dir trained run 0 0 "${gpu[@]}" --epochs 1
checkpoint=trained/run/checkpoints/ckpt-e0001-s0000010.h5
for device in cuda cpu; do
    "$RESNET_DP" eval --checkpoint "$checkpoint" --data data.h5 --device "$device" >"eval-$device" 2>err || fault "eval on $device fails"
done
[ "$(tail -n 1 eval-cuda)" = "$(tail -n 1 eval-cpu)" ] || fault "eval differs: $(tail -n 1 eval-cuda) and $(tail -n 1 eval-cpu)"

begin "bench on the device"
run 0 2 bench --device cuda --blocks 1 --widths 8 --stem-width 8 --batch 8 --steps 2 --repeats 2 --json bench.json
grep -q "without the all-reduce" out || fault "bench does not measure the step without its all-reduce"
transport=mpi
[ "$devices" -lt 2 ] || transport=nccl
grep -q "\"transport\": \"$transport" bench.json || fault "bench does not name $transport"
for key in device_memory_bytes bytes_per_image exposed_milliseconds_per_step_overlap_yes hidden_milliseconds_per_step; do
    grep -Eq "\"$key\": -?[0-9]" bench.json || fault "bench.json: no $key"
done
[ "$emulated" -eq 0 ] || grep -q "the peaks of emulated device are not known" out || fault "bench has a roof for a device that it does not know"
run 0 2 bench --device cuda --comm mpi --sync-bn --blocks 1 --widths 8 --stem-width 8 --batch 8 --steps 2 --repeats 2

verdict
