#!/usr/bin/env bash
# Sweeps: what was finished is not run again, wherever the program was killed or stopped, and the tables are those of a sweep
# that was not; a case that diverges is a result; one that fails ends the sweep; changed options are refused.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
prepare 1000 200
run_limit=180 # of three runs, on a machine that does other things as well, with sanitizers

# Three cases of 60 steps, of which the third diverges at once.
# shellcheck disable=SC2054
tiny=(sweep --data data.h5 --run-dir run --blocks 1 --widths 16 --stem-width 16 --threads 1 --conv-algorithm direct --no-plot
    --no-progress --step-log --momentum 0)
cases=("${tiny[@]}" --batch 48 --epochs 3 --val-fraction 0.03 --vary "lr=0.02,0.05,1000")

# state_of CASE: in the table on disk
state_of() {
    awk -F, -v name="$1" '$1 == name { print $NF }' run/sweep.csv
}

# untimed DIRECTORY: its table without images/s and seconds, of which an interrupted sweep has others
untimed() {
    awk -F, 'BEGIN { OFS = "," } { $(NF - 1) = $(NF - 2) = ""; print }' "$1/run/sweep.csv"
}

# same_tables A B
same_tables() {
    [ "$(untimed "$1")" = "$(untimed "$2")" ] || fault "the tables of $1 and $2 differ"
    equal "$1" "$2" sweep.svg
    [ "$(awk '{ print $NF }' "$1/run/sweep.txt")" = "$(awk '{ print $NF }' "$2/run/sweep.txt")" ] ||
        fault "sweep.txt of $1 and $2 differ"
}

# fingerprint DIRECTORY: names, times, sizes and contents of all files below
fingerprint() {
    (cd "$1" && find . -type f -printf '%p %T@ %s %i\n' -exec cksum {} + | sort)
}

outcome=(metrics.csv steps.csv checkpoints/best.h5 checkpoints/ckpt-e0003-s0000060.h5)
same_runs() {
    local one
    for one in lr=0.02 lr=0.05; do
        equal "$1" "$2" "${outcome[@]/#/$one/}"
    done
}

begin "a straight sweep, its table, and the same command again"
run 0 0 "${cases[@]}"
tail -n 1 out | grep -qx "Table: run/sweep.txt, sweep.csv, sweep.svg" || fault "it does not end with the table"
grep -q "=== Case 2 of 3: lr=0.05 ===" out || fault "it does not name its cases"
said 1 "error: .*training has diverged"
said 1 error:
[ "$(state_of lr=0.02)$(state_of lr=0.05)$(state_of lr=1000)" = donedonediverged ] || fault "wrong states"
accuracy=$(sed -n 's/^Test accuracy: \([0-9.]*\) %.*/\1/p' out | head -n 1)
grep -qE "^0.02 .* $accuracy .* done$" run/sweep.txt || fault "the table lacks the first case's $accuracy %"
grep -q "\"test_accuracy\": null" run/lr=1000/summary.json || fault "a diverged run has a result"
before=$(fingerprint run)
run 0 0 "${cases[@]}"
[ "$(grep -c "is there already" out)" -eq 3 ] || fault "finished cases are run again"
[ "$(fingerprint run | grep -v "sweep\.")" = "$(grep -v "sweep\." <<<"$before")" ] || fault "a finished run was touched"
cp -r "$case_dir" "$work/straight"
cd "$case_dir" || exit 1
rm run/sweep.*
run 0 0 "${cases[@]}"
same_tables "$work/straight" .

# killed_in CASE ROWS: starts the sweep, kills it when the case's steps.csv has so many rows.
killed_in() {
    start 0 "${cases[@]}"
    await 60 has_rows "run/$1/steps.csv" "$2" || fault "no row $2 of $1 within 60 s"
    kill -KILL "$process"
    finish 10 137
    [ ! -f "run/$1/summary.json" ] || fault "$1 had ended before the kill"
}

begin "killed before the first checkpoint, after one, in the next case, between cases; then finished"
killed_in lr=0.02 5
killed_in lr=0.02 30
start 0 "${cases[@]}"
await 60 test -f run/lr=0.02/summary.json || fault "the first case does not end within 60 s"
kill -KILL "$process"
finish 10 137
before=$(fingerprint run/lr=0.02)
killed_in lr=0.05 3
killed_in lr=0.05 50
[ "$(fingerprint run/lr=0.02)" = "$before" ] || fault "the finished case was touched"
run 0 0 "${cases[@]}"
[ "$(grep -c "is there already" out)" -eq 1 ] || fault "the finished case is run again"
[ "$(fingerprint run/lr=0.02)" = "$before" ] || fault "the finished case was touched"
same_tables "$work/straight" .
same_runs "$work/straight" .

begin "SIGTERM stops the sweep with 75; the same command goes on"
start 0 "${cases[@]}"
await 60 has_rows run/lr=0.05/steps.csv 25 || fault "no row 25 of the second case within 60 s"
kill -TERM "$process"
finish 30 75
[ "$(state_of lr=0.02)$(state_of lr=0.05)$(state_of lr=1000)" = donestoppedwaiting ] || fault "wrong states"
grep -q "^The sweep was stopped; the same command goes on with it" out || fault "it does not say how to go on"
run 0 0 "${cases[@]}"
same_tables "$work/straight" .
same_runs "$work/straight" .

begin "2 ranks: straight, killed, stopped by SIGUSR1"
in_dir straight run 0 2 "${cases[@]}"
said 1 "error: .*training has diverged"
in_dir killed start 2 "${cases[@]}"
cd killed || exit 1
await 60 has_rows run/lr=0.05/steps.csv 30 || fault "no row 30 of the second case within 60 s"
kill -KILL "$(rank_process 1)"
finish 30 any
start 2 "${cases[@]}"
await 60 has_rows run/lr=0.05/steps.csv 45 || fault "no row 45 of the second case within 60 s"
kill -USR1 "$process"
finish 30 75
cd .. || exit 1
in_dir killed run 0 2 "${cases[@]}"
same_tables straight killed
same_runs straight killed

begin "a batch that the data or the ranks do not allow: refused before the first case"
run 2 0 "${tiny[@]}" --epochs 1 --vary "batch=48,100000"
said 1 "error: case batch=100000: --batch 100000 is more than the "
run 2 2 "${tiny[@]}" --epochs 1 --vary "batch=48,49"
said 1 "error: .*case batch=49: --batch 49 is not a multiple of 2 ranks"
[ ! -e run ] || fault "a case was begun"

begin "changed options: refused by name; --force runs what has changed, and nothing else"
run 0 0 "${cases[@]}"
run 2 0 "${cases[@]}" --momentum 0.5 --epochs 4
said 1 "error: case lr=0.02: run/lr=0.02 holds a run with other values of momentum, epochs; --force"
run 2 0 "${cases[@]}" --lr 0.1
said 1 "error: --lr: the cases of the sweep vary it"
before=$(fingerprint run/lr=0.05)
cat >cases.ini <<END
[sweep]
batch = 48
epochs = 3
val-fraction = 0.03
[lr=0.02]
lr = 0.02
nesterov = yes
momentum = 0.5
[lr=0.05]
lr = 0.05
momentum = 0
END
changed=(sweep cases.ini "${tiny[@]:1:17}") # all but the momentum
run 2 0 "${changed[@]}"
said 1 "error: case lr=0.02: .*other values of momentum, nesterov"
run 0 0 "${changed[@]}" --force
[ "$(fingerprint run/lr=0.05)" = "$before" ] || fault "a case with the same options was run again"
grep -q '^nesterov = yes' run/lr=0.02/recipe.ini || fault "the changed case was not run anew"
"$RESNET_DP" prepare --synthetic --synthetic-train 1000 --synthetic-test 100 --out other.h5 >/dev/null
run 2 0 "${changed[@]}" --data other.h5
said 1 "error: case lr=0.02: run/lr=0.02/summary.json is of a run on other data than other.h5 holds"

begin "a case that cannot be run ends the sweep; those before it are kept"
mkdir -p run/batch=96 && touch run/batch=96/checkpoints # where a directory will have to be
run 2 2 "${tiny[@]}" --lr 0.02 --epochs 1 --vary "batch=48,96,24"
said 1 "error: .*batch=96/checkpoints"
grep -q "^The sweep ends in its case 2 of 3, batch=96" out || fault "it does not say where it ended"
[ "$(state_of batch=48)$(state_of batch=96)" = donewaiting ] || fault "the first case is not in the table"
begin "nothing is written for a sweep that is refused"
printf '[sweep]\nlearning-rate = 0.1\n[a]\n' >bad.ini
run 2 2 sweep bad.ini --data data.h5 --run-dir run
said 1 "error: .*bad.ini:2: learning-rate: no such option"
run 2 0 "${cases[@]}" --data none.h5
said 1 "error: .*none.h5"
[ ! -e run ] || fault "it has left a directory"

begin "a case that ended within an epoch, resumed after its end"
short=("${tiny[@]}" --batch 48 --vary "lr=0.02" --max-steps 25 --epochs 2)
run 0 0 "${short[@]}"
cp run/sweep.svg run/sweep.csv run/lr=0.02/metrics.csv .
rm run/lr=0.02/summary.json
run 0 0 "${short[@]}"
cmp -s metrics.csv run/lr=0.02/metrics.csv || fault "its metrics have changed"
cmp -s sweep.svg run/sweep.svg || fault "its plot has changed"
verdict
