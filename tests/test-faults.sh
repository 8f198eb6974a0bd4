#!/usr/bin/env bash
# What may happen to a run from outside: ranks that die or stop, signals, full disks, damaged files, a loss that is no number.
# The job ends soon, with the right code and one message, and what was saved before stays whole.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
prepare 1000 100

# newest_is_whole DIRECTORY: its newest checkpoint can be read.
newest_is_whole() {
    local newest
    newest=$(find "$1/checkpoints" -name 'ckpt-*.h5' | sort | tail -n 1)
    if [ -z "$newest" ]; then
        fault "no checkpoint"
    else
        timeout 20 "$RESNET_DP" inspect "$newest" >/dev/null 2>inspect.err || fault "$newest is damaged"
    fi
}

endless=("${small[@]}" --epochs 100000 --evaluate-every 1000)

# under_way RANKS OPTION...: starts an endless run and waits until it has saved.
under_way() {
    local ranks=$1
    shift
    start "$ranks" "${endless[@]}" --checkpoint-steps 10 "$@"
    await 30 has_rows run/steps.csv 24 || fault "no step 23 within 30 s"
}

begin "a rank is killed"
under_way 3
kill -KILL "$(rank_process 1)"
finish 10 any
newest_is_whole run

begin "a rank stops"
under_way 3 --comm-timeout 5
victim=$(rank_process 1)
kill -STOP "$victim"
finish 25 5
said 1 "resnet-dp: error: "
said 1 "rank 1 (pid $victim on "
kill -KILL "$victim" 2>/dev/null
newest_is_whole run

begin "SIGTERM to one process"
under_way 0
kill -TERM "$process"
finish 20 75
newest_is_whole run

# mpirun passes SIGTERM on and kills what is left some seconds later; whose exit code it shows is its own affair.
begin "SIGTERM to mpirun"
under_way 2
kill -TERM "$process"
finish 20 any
newest_is_whole run

# A limit on the size of files lets the tables grow and stops every checkpoint. Set while it runs: MPI's own files are larger.
begin "no room for a checkpoint: file size limit"
start 2 "${small[@]}" --epochs 8
await 30 has_rows run/steps.csv 24 || fault "no step 23 within 30 s"
prlimit --pid "$(rank_process 0)" --fsize=30000:30000
finish 60 3
grep -q "warning: .*File too large.*earlier checkpoints are untouched" err || fault "the reason is not said"
said 1 "error: .*the last checkpoint could not be written"
grep -q "^Test accuracy: " out || fault "the run did not go on to its end"
newest_is_whole run
[ "$(find run/checkpoints -name '.*.tmp.*' | wc -l)" -eq 0 ] || fault "half a file is left"
run 0 2 "${small[@]}" --epochs 8 --resume auto

# fill: leaves 32 KiB on the disk.
fill() {
    head -c 1M /dev/zero >disk/filler 2>/dev/null
    truncate -s $(($(stat -c %s disk/filler) - 32768)) disk/filler
}

begin "no room for a checkpoint: full disk"
mkdir disk
if mount -t tmpfs -o size=512k tmpfs disk 2>/dev/null; then
    run 0 2 "${small[@]}" --run-dir disk/run --epochs 1 --checkpoint-epochs 2
    fill
    run 3 2 "${small[@]}" --run-dir disk/run --epochs 2 --resume auto
    grep -q "warning: .*No space left on device.*earlier checkpoints are untouched" err || fault "the reason is not said"
    newest_is_whole disk/run
    rm disk/filler
    [ ! -e disk/run/summary.json ] || fault "a run to be resumed has a summary"
    run 0 2 "${small[@]}" --run-dir disk/run --epochs 2 --resume auto
    [ -s disk/run/summary.json ] || fault "no summary"
    rm -r disk/run
    fill
    run 3 2 "${small[@]}" --run-dir disk/run --epochs 1 --val-fraction 0.2 --final-test best
    said 1 "error: .*the best weights could not be written (see the warning above)"
    rm disk/filler
    run 0 2 "${small[@]}" --run-dir disk/run --epochs 1 --val-fraction 0.2 --final-test best --resume auto
    umount disk
else
    skip "no tmpfs can be mounted here"
fi

# refused FILE ARGUMENT...: exit code 2 with one error line, within 10 s.
refused() {
    local begun_here=$SECONDS
    run 2 "$@"
    said 1 "resnet-dp: error: "
    [ $((SECONDS - begun_here)) -le 10 ] || fault "took $((SECONDS - begun_here)) s"
}

# flip FILE OFFSET: inverts a byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059
    printf "\\x$(printf %x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc 2>/dev/null
}

begin "damaged data"
size=$(stat -Lc %s data.h5)
for at in 0 $((size * 2 / 3)); do
    cp --remove-destination "$work/data.h5" data.h5
    flip data.h5 "$at"
    refused 2 "${small[@]}" --epochs 1
    cp "$work/data.h5" data.h5
    truncate -s "$at" data.h5
    refused 0 "${small[@]}" --epochs 1
done
[ -e run/steps.csv ] && fault "a run was begun"

begin "damaged checkpoints"
run 0 0 "${small[@]}" --epochs 2 --max-steps 30
newest=run/checkpoints/ckpt-e0001-s0000030.h5
cp $newest whole.h5
size=$(stat -c %s $newest)
for at in 3 $((size / 2)) $((size - 5)); do
    cp whole.h5 $newest
    flip $newest "$at"
    timeout 10 "$RESNET_DP" inspect $newest >out 2>err
    code=$?
    [ "$code" -eq 2 ] || fault "inspect: exit code $code, not 2, with byte $at inverted"
    said 1 "resnet-dp: error: "
done
truncate -s $((size / 2)) $newest
refused 2 "${small[@]}" --epochs 2 --resume $newest
run 0 2 "${small[@]}" --epochs 2 --max-steps 30 --resume auto
said 1 "warning: .*skipped"
grep -q "ckpt-e0001-s0000020" out || fault "it does not say that it goes on from the older one"
cmp -s $newest whole.h5 && fault "one and two ranks have saved the same bytes"
truncate -s 1000 run/checkpoints/ckpt-*
refused 2 "${small[@]}" --epochs 2 --resume auto

# lives RANK: sets victim to its process number.
lives() {
    victim=$(rank_process "$1")
    [ -n "$victim" ]
}

begin "killed six times at any moment"
killed=("${small[@]}" --epochs 6 --checkpoint-steps 7 --resume auto)
in_dir straight run 0 2 "${killed[@]}"
mkdir killed && cd killed || exit 1
ln -s "$work/data.h5" .
RANDOM=4711
for turn in 1 2 3 4 5 6; do
    before=$(rows run/steps.csv)
    start 2 "${killed[@]}"
    await 10 lives $((turn % 2)) || fault "rank $((turn % 2)) does not start"
    # The first two hit the start-up; the others come some steps after what was saved.
    if [ "$turn" -le 2 ]; then
        sleep "0.$((RANDOM % 9))"
    else
        await 30 has_rows run/steps.csv $((before < 90 ? before + 8 : 98))
        sleep "0.0$((RANDOM % 9))"
    fi
    kill -KILL "$victim"
    finish 10 any
done
run 0 2 "${killed[@]}"
cd .. || exit 1
equal straight killed metrics.csv metrics.jsonl steps.csv checkpoints/ckpt-e0006-s0000120.h5

begin "the loss is no number"
for ranks in 0 2; do
    run 4 "$ranks" "${small[@]}" --epochs 1 --lr 1000 --lr-scaling linear --lr-base-batch 1 --force
    said 1 "resnet-dp: error: .*training has diverged"
    said 1 "error:"
done

verdict
