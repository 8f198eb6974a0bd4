#!/usr/bin/env bash
# What a run makes of its evaluations, and what it leaves: the rate that follows the validation loss, the early end, the best
# weights tested at the end, fewer training images, the tables and plots of the run directory.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
prepare 1000 200

# Epochs of 4 steps: 240 images, of which 48 validate.
# shellcheck disable=SC2054
few=("${small[@]}" --lr 0.05 --train-images 240 --val-fraction 0.2)

# column NAME EPOCH: of run/metrics.csv
column() {
    awk -F, -v name="$1" -v epoch="$2" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) c = i } $1 == epoch { print $c }' \
        run/metrics.csv
}

# best_epoch: the one of the lowest validation loss; the first, of equals.
best_epoch() {
    awk -F, 'NR > 1 && (best == "" || $6 + 0 < best + 0) { best = $6; epoch = $1 } END { print epoch }' run/metrics.csv
}

# shows NAME VALUE: a member of run/summary.json
shows() {
    grep -q "^  \"$1\": $2,\{0,1\}$" run/summary.json || fault "summary.json: $(grep "\"$1\"" run/summary.json || echo "no $1"), not $2"
}

begin "plateau, stopped at every step"
plateau=("${few[@]}" --epochs 4 --schedule plateau --plateau-patience 0 --plateau-factor 0.5 --plateau-threshold 0.15
    --warmup-epochs 1.5 --resume auto)
in_dir straight run 0 0 "${plateau[@]}"
for step in $(seq 1 15) 0; do
    in_dir stopped run 0 0 "${plateau[@]}" --max-steps "$step"
done
equal straight stopped metrics.csv metrics.jsonl steps.csv classes.csv confusion.csv checkpoints/ckpt-e0004-s0000016.h5
tail -n 2 straight/out >result
tail -n 2 stopped/out | cmp -s - result || fault "another result: $(tail -n 2 stopped/out)"
awk -F, 'NR > 1 { lowest = lowest == "" || $3 < lowest ? $3 : lowest } END { exit !(lowest <= 0.025) }' straight/run/metrics.csv ||
    fault "the rate was never lowered"

# early RANKS OPTION...: stops after the first evaluation without a better validation loss, and tests the epoch before.
early() {
    local ranks=$1 best accuracy
    shift
    run 0 "$ranks" "${small[@]}" --lr 0.05 --train-images 480 --val-fraction 0.2 --epochs 60 --early-stopping 1 --resume auto "$@"
    best=$(best_epoch)
    [ "$(rows run/metrics.csv)" -eq $((best + 2)) ] || fault "best epoch $best, but $(rows run/metrics.csv) rows"
    [ "$best" -lt 59 ] || fault "it did not stop early"
    grep -q "^Stopped early: 1 evaluation without a better validation loss$" out || fault "it does not say that it stopped early"
    accuracy=$(awk -v a="$(column test_accuracy "$best")" 'BEGIN { printf "%.2f", 100 * a }')
    tail -n 1 out | grep -q "^Test accuracy: $accuracy % ([0-9]* of 200)$" || fault "$(tail -n 1 out), not $accuracy"
    accuracy=$(awk -v a="$(column test_accuracy $((best + 1)))" 'BEGIN { printf "%.2f", 100 * a }')
    tail -n 2 out | grep -q "^Best epoch: $best, with .*; its weights are tested. The last weights' accuracy: $accuracy % " ||
        fault "$(tail -n 2 out | head -n 1), not $best and $accuracy"
    shows tested_weights '"best"'
    shows tested_epoch "$best"
    shows test_accuracy "$(column test_accuracy "$best")"
    shows test_loss "$(column test_loss "$best")"
    shows best_validation_loss "$(column val_loss "$best")"
    shows last_test_accuracy "$(column test_accuracy $((best + 1)))"
    shows stopped_early true
    sed -n '/^Class /,$p' out >first
    run 0 "$ranks" "${small[@]}" --lr 0.05 --train-images 480 --val-fraction 0.2 --epochs 60 --early-stopping 1 --resume auto "$@"
    sed -n '/^Class /,$p' out | cmp -s - first || fault "resumed after its end, it tells something else"
}

begin "early stopping and the best weights, one process"
early 0
run 0 0 eval --data data.h5 --checkpoint run/checkpoints/best.h5
tail -n 1 out | cmp -s - <(tail -n 1 first) || fault "eval of best.h5: $(tail -n 1 out)"
begin "early stopping and the best weights, 2 ranks, local batch-norm, evaluation on all"
early 2 --evaluate-on all

begin "which weights are tested"
run 0 0 "${few[@]}" --epochs 3
grep -q "^Best epoch: " out || fault "auto with a validation set does not test the best"
run 0 0 "${few[@]}" --epochs 3 --final-test last --force
grep -q "^Best epoch: " out && fault "--final-test last tests the best"
shows tested_weights '"last"'
shows tested_epoch 3
run 0 0 "${few[@]}" --epochs 3 --checkpoint-epochs 0 --force
grep -q "^The last weights are tested: without checkpoints" out || fault "auto without checkpoints does not say what it tests"
run 0 0 "${few[@]}" --epochs 3 --force
rm run/checkpoints/best.h5
run 0 0 "${few[@]}" --epochs 3 --resume auto
grep -q "^The last weights are tested, not the best: .*best.h5.*No such file" out || fault "it does not say that best.h5 is missing"
run 2 0 "${few[@]}" --epochs 3 --resume auto --final-test best
said 1 "error: .*best.h5.*No such file"
run 2 2 "${few[@]}" --epochs 3 --resume auto --final-test best
said 1 "error: .*best.h5.*No such file"

begin "fewer training images"
run 0 0 "${few[@]}" --epochs 1
grep -q "192 training, 48 validation, 200 test images" out || fault "other counts: $(grep '^Data ' out)"
run 2 2 "${few[@]}" --epochs 1 --force --train-images 1001
said 1 "error: .*--train-images 1001: data.h5 holds 1000 training images"
run 2 0 "${few[@]}" --epochs 1 --force --val-fraction 0.001
said 1 "error: .*--val-fraction 0.001 of 240 training images is none"
run 2 0 "${few[@]}" --epochs 1 --force --val-fraction 0.999
said 1 "error: .*--val-fraction 0.999 of 240 training images leaves none to train on"

begin "what a run leaves"
run 0 0 "${few[@]}" --epochs 2 --plot yes
drawn="loss.svg accuracy.svg learning-rate.svg loss-steps.svg learning-rate-steps.svg confusion.svg"
for file in $drawn classes.csv confusion.csv; do
    [ -s "run/$file" ] || fault "no $file"
done
correct=$(awk -F, 'NR > 1 { n += $2; of += $3 } END { print n " of " of }' run/classes.csv)
tail -n 1 out | grep -q "($correct)$" || fault "classes.csv: $correct"
correct=$(awk -F, 'NR > 1 { n += $NR } END { print n }' run/confusion.csv)
tail -n 1 out | grep -q "($correct of 200)$" || fault "confusion.csv: $correct on the diagonal"
mkdir kept && for file in $drawn; do mv "run/$file" kept; done
run 0 0 plot run
for file in $drawn; do
    cmp -s "run/$file" "kept/$file" || fault "plot draws another $file"
    grep -qx "run/$file" out || fault "plot does not name $file"
done
run 0 0 "${few[@]}" --epochs 1 --force --step-log no
for file in steps.csv loss-steps.svg loss.svg; do
    [ ! -e "run/$file" ] || fault "$file of the replaced run is still there"
done

begin "the summary is the last file; what is missing comes when the run goes on"
mkdir -p run/accuracy.svg
run 3 0 "${few[@]}" --epochs 1 --plot yes
said 1 "error: .*run/accuracy.svg"
[ ! -e run/summary.json ] || fault "a summary without all drawings"
rmdir run/accuracy.svg
rm run/loss.svg
run 0 0 "${few[@]}" --epochs 1 --plot yes --resume auto
for file in $drawn classes.csv confusion.csv summary.json; do
    [ -s "run/$file" ] || fault "no $file"
done

begin "drawing of the network"
run 0 0 draw --blocks 1,1 --widths 8,16 --out net.dot
grep -q "^digraph " net.dot || fault "no digraph"
run 2 0 draw --blocks 1,1 --widths 8,16
said 1 "error: .*--out"
run 3 0 draw --out nowhere/net.dot
said 1 "error: .*nowhere/net.dot"

verdict
