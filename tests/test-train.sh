#!/usr/bin/env bash
# Whole training runs: the number of ranks and of micro-batches does not change what is computed, a run that was stopped and
# resumed ends with the bytes of one that was not, and what may not be mixed is refused.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
prepare 1000 200

# agree A B: the losses of two steps.csv differ by rounding: 1e-6 in the first step, 2e-4 after 20 steps of training.
agree() {
    paste -d, "$1/run/steps.csv" "$2/run/steps.csv" | awk -F, '
        NR > 1 { d = ($3 - $6) / $3; if (d < 0) d = -d; if (NR == 2 && d > 1e-6 || d > 2e-4 || $1 != $4) bad = bad " " $1; n++ }
        END { if (n != 20 || bad != "") { print "steps" bad " of " n; exit 1 } }' >agree.txt ||
        fault "$1 and $2 differ in $(cat agree.txt)"
}

# Two stages, so that a shortcut with a convolution is in it.
# shellcheck disable=SC2054
deep=(--blocks 1,1 --widths 16,32 --epochs 1 --sync-bn --checkpoint-epochs 0)
begin "one global batch on 1 to 4 ranks"
for ranks in 1 2 3 4; do
    in_dir "np$ranks" run 0 "$ranks" "${small[@]}" "${deep[@]}"
    agree np1 "np$ranks"
done

# What is dropped is chosen by sample, not by rank.
begin "dropout on 1 and 2 ranks"
for ranks in 1 2; do
    in_dir "drop$ranks" run 0 "$ranks" "${small[@]}" "${deep[@]}" --dropout 0.1,0.2
done
agree drop1 drop2
in_dir none run 0 1 "${small[@]}" "${deep[@]}"
cmp -s none/run/steps.csv drop1/run/steps.csv && fault "dropout changes nothing"

# Micro-batches, like ranks without sync-BN, have batch-norm statistics of their own: what cuts the batch alike agrees.
begin "micro-batches as ranks"
in_dir r1a2 run 0 1 "${small[@]}" --epochs 1 --checkpoint-epochs 0 --accumulate 2
in_dir r2a1 run 0 2 "${small[@]}" --epochs 1 --checkpoint-epochs 0
in_dir r1a4 run 0 1 "${small[@]}" --epochs 1 --checkpoint-epochs 0 --accumulate 4
in_dir r2a2 run 0 2 "${small[@]}" --epochs 1 --checkpoint-epochs 0 --accumulate 2
agree r1a2 r2a1
agree r1a4 r2a2

# stop_and_resume RANKS OPTION...: straight; stopped by SIGUSR1 inside epoch 2 (the signal goes to mpirun, or to the only
# process) and resumed; stopped at the end of epoch 1 by --max-steps and resumed. All end with the same bytes.
outcome=(metrics.csv metrics.jsonl steps.csv checkpoints/ckpt-e0003-s0000060.h5 checkpoints/best.h5)
stop_and_resume() {
    local ranks=$1
    shift
    local options=("${small[@]}" --epochs 3 --resume auto "$@")
    in_dir straight run 0 "$ranks" "${options[@]}"
    in_dir signal start "$ranks" "${options[@]}"
    cd signal || exit 1
    await 30 has_rows run/steps.csv 24 || fault "no step 23 within 30 s"
    kill -USR1 "$process"
    finish 30 75
    grep -q "^Stopped by signal .* at step [0-9]* of 60, saved in run/checkpoints" out || fault "it does not say where it stopped"
    tail -n 1 run/steps.csv | grep -q "^60," && fault "it had finished before the signal"
    cd .. || exit 1
    in_dir signal run 0 "$ranks" "${options[@]}"
    equal straight signal "${outcome[@]}"
    if [ "$stop_at_epoch" ]; then
        in_dir end run 0 "$ranks" "${options[@]}" --max-steps 20
        in_dir end run 0 "$ranks" "${options[@]}"
        equal straight end "${outcome[@]}"
    fi
}

stop_at_epoch=yes
begin "stop and resume, one process"
stop_and_resume 0 --val-fraction 0.03 --schedule cosine
begin "stop and resume, 2 ranks, local batch-norm"
stop_and_resume 2
stop_at_epoch=
begin "stop and resume, 2 ranks, --shuffle local, sync-bn, bf16"
stop_and_resume 2 --shuffle local --sync-bn --precision bf16 --schedule onecycle --onecycle-momentum 0.85,0.95
begin "stop and resume, 4 ranks, local batch-norm, micro-batches"
stop_and_resume 4 --accumulate 2 --nesterov
begin "stop and resume, 2 ranks, dropout, mix-up, CutMix, whitened stem"
stop_and_resume 2 --dropout 0.2 --mixup 0.2 --cutmix 1 --stem-init whiten --freeze-stem --evaluate-views 6
# Every array that a checkpoint can hold, with running statistics of each rank's own; best.h5 goes by the averages.
begin "stop and resume, 2 ranks, AdamW, lookahead, averages of the weights"
stop_and_resume 2 --optimizer adamw --lr 0.002 --lookahead 3 --ema 0.9 --clip-norm 1 --val-fraction 0.03
begin "stop and resume, 2 ranks, averaged SGD"
stop_and_resume 2 --optimizer asgd --asgd-t0 7 --evaluate-weights averaged --schedule cosine

begin "one-cycle's momentum is the step's"
cycle=("${small[@]}" --epochs 1 --schedule onecycle --momentum 0.9)
in_dir fixed run 0 0 "${cycle[@]}"
in_dir same run 0 0 "${cycle[@]}" --onecycle-momentum 0.9,0.9
in_dir moved run 0 0 "${cycle[@]}" --onecycle-momentum 0.5,0.95
equal fixed same steps.csv
cmp -s fixed/run/steps.csv moved/run/steps.csv && fault "--onecycle-momentum changes nothing"

begin "a rate that never falls"
run 0 0 "${small[@]}" --epochs 1 --schedule step --step-epochs 1
said 1 "warning: the rate never falls.*lower --step-epochs or raise --epochs"
run 0 0 "${small[@]}" --epochs 2 --schedule multistep --milestones 0.5 --max-steps 20 --force
said 0 "the rate never falls"
run 0 0 "${small[@]}" --epochs 2 --schedule multistep --milestones 1.5 --max-steps 20 --force
said 1 "warning: the rate never falls.*lower --milestones or raise --max-steps"

begin "averaged weights are what is evaluated, and change nothing"
averaged=("${small[@]}" --epochs 2 --ema 0.9 --threads 1)
in_dir averages run 0 2 "${averaged[@]}"
in_dir trained run 0 2 "${averaged[@]}" --evaluate-weights trained
in_dir none run 0 2 "${small[@]}" --epochs 2
equal averages trained steps.csv
equal averages none steps.csv
equal trained none metrics.csv
cmp -s averages/run/metrics.csv trained/run/metrics.csv && fault "--evaluate-weights changes no metrics"
# tested DIRECTORY OPTION...: eval of the directory's last checkpoint; its two lines of results are the run's own.
tested() {
    local directory=$1
    shift
    "$RESNET_DP" eval --checkpoint averages/run/checkpoints/ckpt-e0002-s0000040.h5 --data data.h5 --threads 1 "$@" >tested.txt 2>err ||
        fault "eval $* fails"
    [ "$(tail -n 1 tested.txt)" = "$(tail -n 1 "$directory/out")" ] || fault "eval $* is not the result of $directory"
    [ "$(awk '/^Test loss/ { print $3 }' tested.txt)" = "$(tail -n 1 "$directory/run/metrics.csv" | awk -F, '{ printf "%.4f", $(NF - 1) }')" ] ||
        fault "eval $*: the loss is not that of $directory"
}
tested averages
tested averages --evaluate-weights averaged
tested trained --evaluate-weights trained
"$RESNET_DP" eval --checkpoint none/run/checkpoints/best.h5 --data data.h5 --evaluate-weights averaged >out 2>err && fault "averages that are not there are evaluated"
said 1 "error: .*no averaged weights"

# One and two ranks compute the same with sync-bn, for optimisers that take norms of the whole gradient or of its rows too.
begin "one global batch with other optimisers"
for optimiser in adamw lamb lars rmsprop; do
    rate=0.001
    [ "$optimiser" != lars ] || rate=1
    options=("${small[@]}" --epochs 1 --sync-bn --checkpoint-epochs 0 --optimizer "$optimiser" --lr "$rate" --clip-norm 0.5 --lookahead 4)
    in_dir "$optimiser-1" run 0 1 "${options[@]}"
    in_dir "$optimiser-2" run 0 2 "${options[@]}"
    agree "$optimiser-1" "$optimiser-2"
done

begin "the same seed twice, another seed, overlap, who evaluates"
once=("${small[@]}" --max-steps 30 --epochs 2)
files=(metrics.csv metrics.jsonl steps.csv)
in_dir first run 0 2 "${once[@]}"
in_dir second run 0 2 "${once[@]}"
equal first second "${files[@]}" checkpoints/ckpt-e0001-s0000030.h5
in_dir other run 0 2 "${once[@]}" --seed 2
cmp -s first/run/steps.csv other/run/steps.csv && fault "another seed gives the same losses"
in_dir late run 0 2 "${once[@]}" --overlap no --bucket-mb 0.01 --evaluate-on all
in_dir early run 0 2 "${once[@]}" --overlap yes --bucket-mb 0.01
equal late first steps.csv
equal late early steps.csv
# The table of classes, with the confusion matrix and the accuracy; the sum of losses over ranks is rounded differently.
for one in early late; do sed -n '/^Class /,$p' "$one/out" >"$one/table"; done
{ [ -s early/table ] && cmp -s early/table late/table; } || fault "--evaluate-on all and rank0 disagree"

begin "what may change on resume, and what may not"
run 0 2 "${small[@]}" --epochs 2 --max-steps 20
run 0 1 "${small[@]}" --epochs 2 --max-steps 25 --resume auto
said 1 "warning: .*was saved by 2 ranks and goes on with 1"
run 0 1 "${small[@]}" --epochs 2 --max-steps 25 --resume auto --threads 2
said 1 "warning: .*was saved with 1 threads a rank and goes on with 2 "
said 1 warning:
for change in "--lr 0.03" "--widths 32" "--optimizer adam" "--ema 0.9"; do
    # shellcheck disable=SC2086
    run 2 0 "${small[@]}" --epochs 2 --resume auto $change
    said 1 "error: .*was trained with other values of"
    said 1 error:
done
"$RESNET_DP" prepare --synthetic --synthetic-train 1000 --synthetic-test 100 --out other.h5 >/dev/null
run 2 2 "${small[@]}" --epochs 2 --resume auto --data other.h5
said 1 "error: .*was trained on other data"
run 0 2 "${small[@]}" --epochs 2 --max-steps 25 --resume auto
grep -q "^Test accuracy: " out || fault "a finished run, resumed, does not tell its result"

begin "a run directory is one run's"
run 0 0 "${small[@]}" --epochs 2
run 2 2 "${small[@]}" --epochs 1
said 1 "error: .*holds a run already"
run 0 0 "${small[@]}" --epochs 1 --force
[ "$(cd run/checkpoints && echo ckpt-*)" = ckpt-e0001-s0000020.h5 ] || fault "checkpoints of the replaced run are still there"
rm -r run
start 0 "${small[@]}" --epochs 1000
await 30 has_rows run/steps.csv 2 || fault "the first run does not start"
mkdir second && ln -s ../run second/run
in_dir second run 2 2 "${small[@]}" --force
grep -c 'error: .*another resnet-dp is training into this directory' second/err | grep -qx 1 || fault "it does not say that the directory is in use"
kill "$process"
finish 30 75

verdict
