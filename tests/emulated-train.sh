#!/usr/bin/env bash
# Training on CUDA devices, with CUDA emulated on the host (tests/emulation/): what is recorded equals what is not, NCCL
# equals MPI, several ranks equal one, a resumed run equals a straight one, and what cannot be had is refused. RESNET_DP is
# the program built with the emulation.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
export RDP_EMULATION_DEVICES=4 XDG_CACHE_HOME=$work/cache
prepare 160 40

# Ten steps an epoch. The emulation runs a GPU's threads one after the other.
# shellcheck disable=SC2054
gpu=(--data data.h5 --run-dir run --blocks 1,1 --widths 8,16 --stem-width 8 --batch 16 --lr 0.02 --threads 1 --no-plot --no-progress
    --step-log --device cuda)

# near A B TOLERANCE: the losses of all steps of two runs.
near() {
    paste -d, "$1/run/steps.csv" "$2/run/steps.csv" | awk -F, -v most="$3" '
        NR > 1 { d = ($3 - $6) / $3; if (d < 0) d = -d; if (d > worst) worst = d; if (d > most || $1 != $4) bad = bad " " $1; n++ }
        END { if (n < 10 || bad != "") { print "steps" bad " of " n ", at worst " worst; exit 1 } }' >near.txt ||
        fault "$1 and $2 differ in $(cat near.txt)"
}

begin "CUDA against the CPU, fp32"
in_dir cuda run 0 0 "${gpu[@]}" --epochs 1
grep -q "^Device      .*CUDA" cuda/out || fault "the banner does not name the CUDA device"
in_dir cpu run 0 0 "${gpu[@]}" --epochs 1 --device cpu --conv-algorithm direct
near cuda cpu 1e-3 # ten steps at this rate make 1e-7 of rounding about 1e-4
in_dir auto run 0 0 "${gpu[@]}" --epochs 1 --device auto
equal cuda auto steps.csv metrics.csv

begin "recorded steps equal steps run as they are"
for precision in fp32 bf16; do
    in_dir "yes-$precision" run 0 0 "${gpu[@]}" --epochs 2 --precision "$precision" --nesterov --label-smoothing 0.1
    in_dir "no-$precision" run 0 0 "${gpu[@]}" --epochs 2 --precision "$precision" --nesterov --label-smoothing 0.1 --graph no --report-every 3
    equal "yes-$precision" "no-$precision" steps.csv metrics.csv
done
in_dir accumulate run 0 0 "${gpu[@]}" --epochs 1 --accumulate 2
in_dir accumulate-no run 0 0 "${gpu[@]}" --epochs 1 --accumulate 2 --graph no
equal accumulate accumulate-no steps.csv metrics.csv

begin "stop and resume"
in_dir straight run 0 0 "${gpu[@]}" --epochs 3 --precision bf16 --resume auto
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision bf16 --resume auto --max-steps 13
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision bf16 --resume auto --checkpoint-steps 7 --max-steps 22
in_dir parts run 0 0 "${gpu[@]}" --epochs 3 --precision bf16 --resume auto
equal straight parts steps.csv metrics.csv checkpoints/ckpt-e0003-s0000030.h5
in_dir signal start 0 "${gpu[@]}" --epochs 300
await 60 has_rows signal/run/steps.csv 12 || fault "no step 11 within 60 s"
kill -USR1 "$process"
finish 60 75

begin "ranks: NCCL equals MPI, and several equal one"
in_dir np1 run 0 0 "${gpu[@]}" --epochs 1 --sync-bn
for ranks in 2 4; do
    in_dir "nccl$ranks" run 0 "$ranks" "${gpu[@]}" --epochs 1 --sync-bn
    grep -q "^Gradients .*NCCL" "nccl$ranks/out" || fault "$ranks ranks do not use NCCL"
    in_dir "mpi$ranks" run 0 "$ranks" "${gpu[@]}" --epochs 1 --sync-bn --comm mpi
    grep -q "^Gradients .*staged" "mpi$ranks/out" || fault "$ranks ranks do not stage"
    equal "nccl$ranks" "mpi$ranks" steps.csv metrics.csv
    near np1 "nccl$ranks" 1e-3
done
in_dir late run 0 2 "${gpu[@]}" --epochs 1 --bucket-mb 0.001 --overlap no
in_dir early run 0 2 "${gpu[@]}" --epochs 1 --bucket-mb 0.001
equal late early steps.csv

begin "several ranks on one GPU"
export RDP_EMULATION_DEVICES=1
in_dir shared run 0 2 "${gpu[@]}" --epochs 1
grep -q "^Gradients .*staged" shared/out || fault "--comm auto does not take MPI"
grep -q "ranks 0 and 1 .*both drive GPU" shared/out || fault "the banner does not say that they share"
run 2 2 "${gpu[@]}" --epochs 1 --comm nccl --run-dir other
said 1 "error: .*--comm nccl: several ranks drive one GPU"
export RDP_EMULATION_DEVICES=4

begin "no GPU"
export RDP_EMULATION_DEVICES=0
run 2 0 "${gpu[@]}" --epochs 1
said 1 "error: --device cuda: "
run 0 0 "${gpu[@]}" --epochs 1 --device auto
grep -q "^Device      CPU" out || fault "--device auto does not take the CPU"
run 2 0 "${gpu[@]}" --epochs 1 --device auto --profile-steps 2:3 --run-dir other
said 1 "error: --profile-steps: "
export RDP_EMULATION_DEVICES=4

begin "a rank that is killed, a sum that never ends"
start 2 "${gpu[@]}" --epochs 300 --comm-timeout 5
await 60 has_rows run/steps.csv 12 || fault "no step 11 within 60 s"
victim=$(pgrep -n -f -- "--epochs 300 --comm-timeout 5")
kill -KILL "$victim"
finish 60 any
RDP_EMULATION_NCCL_HANG=40@1 run 5 2 "${gpu[@]}" --epochs 300 --comm-timeout 5 --run-dir hang
grep -q "resnet-dp: error: .*rank [01]" err || fault "the message names no rank"
RDP_EMULATION_NCCL_FAIL=40@1 run 5 2 "${gpu[@]}" --epochs 300 --comm-timeout 5 --run-dir fail
grep -q "resnet-dp: error: .*NCCL" err || fault "the message does not name NCCL"

begin "eval, predict-like passes and bench on the device"
in_dir trained run 0 0 "${gpu[@]}" --epochs 1
checkpoint=trained/run/checkpoints/ckpt-e0001-s0000010.h5
for device in cuda cpu; do
    "$RESNET_DP" eval --checkpoint "$checkpoint" --data data.h5 --device "$device" >"eval-$device" 2>err || fault "eval on $device fails"
done
[ "$(tail -n 1 eval-cuda)" = "$(tail -n 1 eval-cpu)" ] || fault "eval differs: $(tail -n 1 eval-cuda) and $(tail -n 1 eval-cpu)"
(launch timeout 60 -- 2 bench --device cuda --blocks 1 --widths 8 --stem-width 8 --batch 8 --steps 2 --repeats 2 --json bench.json)
grep -q "without the all-reduce" out || fault "bench does not measure the step without its all-reduce"
grep -q '"transport": "nccl"' bench.json || fault "bench does not name NCCL"

verdict
