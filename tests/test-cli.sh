#!/usr/bin/env bash
# The command line from outside: what is wrong is told in exactly one line that says what, with exit code 2, for one rank and
# for several; what is right ends with the lines that scripts count on.
#
# RESNET_DP: the program; SOURCE_DIR: the source tree; MPIEXEC: mpirun.
set -u
program=$RESNET_DP
mpiexec=${MPIEXEC:-mpirun}
recipes=$SOURCE_DIR/jobs/recipes
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
checks=0 failures=0
tiny=(--blocks "1,1" --widths "16,32" --stem-width 16)

# judge NAME PROBLEM: one check; PROBLEM is empty if it passed. The last command's output is in $work/out and $work/err.
judge() {
    checks=$((checks + 1))
    [ -z "$2" ] && return
    failures=$((failures + 1))
    echo "FAIL $1: $2"
    sed 's/^/     out: /' "$work/out" | tail -n 12
    sed 's/^/     err: /' "$work/err" | tail -n 12
}

# refuse NAME WORDS COMMAND...: exit code 2 and one error line of ours, with every one of the WORDS (separated by |).
refuse() {
    local name=$1 words=$2 code problem="" lines word
    shift 2
    "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    lines=$(grep -c '^resnet-dp: error: ' "$work/err")
    [ "$code" -eq 2 ] || problem+="exit code $code, not 2; "
    [ "$lines" -eq 1 ] || problem+="$lines error lines, not 1; "
    # mpirun adds lines of its own; without it nothing else may be there.
    if [ "$1" = "$program" ] && [ "$(wc -l <"$work/err")" -ne 1 ]; then problem+="more than one line on stderr; "; fi
    while IFS= read -r word; do
        grep '^resnet-dp: error: ' "$work/err" | grep -qF -e "$word" || problem+="does not say \"$word\"; "
    done < <(tr '|' '\n' <<<"$words")
    judge "$name" "$problem"
}

# accept NAME COMMAND...: exit code 0.
accept() {
    local name=$1 code problem=""
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    [ "$code" -eq 0 ] || problem="exit code $code, not 0"
    judge "$name" "$problem"
}

# says NAME PATTERN: a line of the last command's stdout matches the extended regular expression.
says() {
    local problem=""
    grep -qE -e "$2" "$work/out" || problem="no line matches $2"
    judge "$1" "$problem"
}

# last NAME TEXT: the last line of the last command's stdout.
last() {
    local problem="" line
    line=$(tail -n 1 "$work/out")
    [ "$line" = "$2" ] || problem="the last line is \"$line\", not \"$2\""
    judge "$1" "$problem"
}

# shellcheck disable=SC2317,SC2329 # refuse and accept call it
ranks() {
    local count=$1
    shift
    "$mpiexec" -np "$count" "$program" "$@"
}

# flip FILE OFFSET: changes one byte.
flip() {
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1")
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %02x $((byte ^ 16)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# ---- what everything below stands on --------------------------------------------------------------------------------

accept "synthetic data" "$program" prepare --synthetic --synthetic-train 200 --synthetic-test 60 --out data.h5
accept "small synthetic data" "$program" prepare --synthetic --synthetic-train 10 --synthetic-test 10 --out ten.h5
accept "training" "$program" train "${tiny[@]}" --batch 20 --data data.h5 --epochs 1 --run-dir run --plot no
says "training ends with the accuracy" '^Test accuracy: [0-9]+\.[0-9]{2} % \([0-9]+ of 60\)$'
accuracy=$(tail -n 1 "$work/out")
checkpoint=$(find run/checkpoints -name 'ckpt-*.h5' | head -n 1)
judge "training leaves a checkpoint" "$([ -s "$checkpoint" ] || echo "none in run/checkpoints")"
base64 -d >stripes.png <<'END'
iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAALUlEQVR42u3NsQkAAAgDwey/tC6ghaVwkO4Dl6TG1RLufwAAAAAAAAAAAPAEaDaH
/C5xz52lAAAAAElFTkSuQmCC
END
base64 -d >wide.png <<'END'
iVBORw0KGgoAAAANSUhEUgAAACgAAAAYCAIAAAAH5iiXAAAALklEQVR42u3TsQ0AAAjDsJ7O5/AFXSxlz+Rk0sn4rd1Oxn9jnDjGiWOcOMapPj42
Cax9o4dQFAAAAABJRU5ErkJggg==
END
echo "no such thing" >foreign
head -c 5000 data.h5 >short-data.h5
cp data.h5 flipped-data.h5 && flip flipped-data.h5 $(($(stat -c %s data.h5) / 2))
head -c $(($(stat -c %s "$checkpoint") - 1)) "$checkpoint" >short-checkpoint.h5
cp "$checkpoint" flipped-checkpoint.h5 && flip flipped-checkpoint.h5 $(($(stat -c %s "$checkpoint") / 2))
printf 'lr = 0.1\nepochs = many\n' >value.ini
printf '[training]\nlr 0.1\n' >syntax.ini
printf 'momentun = 0.9\n' >key.ini
train=(train "${tiny[@]}" --batch 20 --epochs 1 --run-dir other --plot no)

# ---- one rank, one line -----------------------------------------------------------------------------------------------

refuse "unknown option" "--momentun|did you mean --momentum?" "$program" train --momentun 0.8
refuse "option of another command" "--top|predict" "$program" train --top 3
refuse "unknown value" "--block|pyramid|basic|bottleneck" "$program" summary --block pyramid
refuse "value out of range" "--momentum|1.5" "$program" train --momentum 1.5
refuse "missing value" "--batch|needs a value" "$program" train --batch
refuse "lists of different length" "--blocks|--widths" "$program" summary --blocks 1,1 --widths 8,16,32
refuse "unknown command" "evel|did you mean eval?" "$program" evel
refuse "stray word" "data.h5" "$program" eval --checkpoint "$checkpoint" data.h5
refuse "no image" "predict|IMAGE" "$program" predict --checkpoint "$checkpoint"
refuse "no checkpoint named" "--checkpoint" "$program" eval --data data.h5
refuse "missing recipe" "nowhere.ini|No such file" "$program" train --recipe nowhere.ini
refuse "no recipe of that name" "basic-211|did you mean basic-2111?" "$program" train --recipe basic-211
accept "a recipe by its name" "$program" summary --recipe basic-2111
says "a recipe by its name: its parameters" 'Total params: 4,977,226$'
printf 'blocks = 1\nwidths = 16\nstem-width = 16\n' >basic-2111
accept "a file of that name comes first" "$program" summary --recipe basic-2111
says "a file of that name comes first: its parameters" 'Total params: [0-9],[0-9]{3}$'
rm basic-2111
refuse "no sweep of that name" "report-3-batc|did you mean report-3-batch?" "$program" sweep report-3-batc
refuse "recipe: bad value" "value.ini|2|epochs|many" "$program" train --recipe value.ini
refuse "recipe: bad line" "syntax.ini|2" "$program" train --recipe syntax.ini
refuse "recipe: unknown key" "key.ini|1|momentun|momentum" "$program" train --recipe key.ini
refuse "missing data" "nowhere.h5|No such file" "$program" "${train[@]}" --data nowhere.h5
refuse "truncated data" "short-data.h5" "$program" "${train[@]}" --data short-data.h5
refuse "flipped data" "flipped-data.h5" "$program" "${train[@]}" --data flipped-data.h5
refuse "foreign data" "foreign" "$program" "${train[@]}" --data foreign
refuse "inspect: flipped data" "flipped-data.h5" "$program" inspect flipped-data.h5
refuse "inspect: foreign file" "foreign" "$program" inspect foreign
refuse "batch larger than the data" "--batch" "$program" "${train[@]}" --data ten.h5
refuse "batch and micro-batches" "--batch 20|--accumulate 3" "$program" "${train[@]}" --data data.h5 --accumulate 3
refuse "run directory exists" "run|--force" "$program" "${train[@]}" --data data.h5 --run-dir run
for damage in short flipped; do
    refuse "eval: $damage checkpoint" "$damage-checkpoint.h5" "$program" eval --checkpoint $damage-checkpoint.h5 --data data.h5
    refuse "predict: $damage checkpoint" "$damage-checkpoint.h5" "$program" predict --checkpoint $damage-checkpoint.h5 stripes.png
    refuse "resume: $damage checkpoint" "$damage-checkpoint.h5" "$program" "${train[@]}" --data data.h5 --resume $damage-checkpoint.h5
done
refuse "eval: missing checkpoint" "nowhere.h5|No such file" "$program" eval --checkpoint nowhere.h5 --data data.h5
refuse "eval: data as checkpoint" "data.h5" "$program" eval --checkpoint data.h5 --data data.h5
refuse "eval: checkpoint as data" "$checkpoint" "$program" eval --checkpoint "$checkpoint" --data "$checkpoint"
refuse "eval: missing data" "nowhere.h5|No such file" "$program" eval --checkpoint "$checkpoint" --data nowhere.h5
refuse "predict: missing image" "nowhere.png|No such file" "$program" predict --checkpoint "$checkpoint" stripes.png nowhere.png
refuse "predict: foreign image" "foreign" "$program" predict --checkpoint "$checkpoint" foreign
refuse "bench: no such directory" "--json|nowhere" "$program" bench "${tiny[@]}" --batch 16 --json nowhere/bench.json
refuse "bench: batch and micro-batches" "--batch 16|--accumulate 3" "$program" bench "${tiny[@]}" --batch 16 --accumulate 3
refuse "cuda: train" "--device cuda|--device cpu" "$program" "${train[@]}" --data data.h5 --device cuda
refuse "cuda: eval" "--device cuda" "$program" eval --checkpoint "$checkpoint" --data data.h5 --device cuda
refuse "cuda: predict" "--device cuda" "$program" predict --checkpoint "$checkpoint" --device cuda stripes.png
refuse "cuda: bench" "--device cuda" "$program" bench "${tiny[@]}" --batch 16 --device cuda
refuse "cuda: info" "--device cuda" "$program" info --device cuda
judge "nothing was trained" "$([ ! -e other/metrics.csv ] || echo "other/metrics.csv exists")"

# ---- several ranks, one line --------------------------------------------------------------------------------------------

refuse "ranks: unknown option" "--momentun|did you mean --momentum?" ranks 2 train --momentun 0.8
refuse "ranks: missing recipe" "nowhere.ini|No such file" ranks 2 train --recipe nowhere.ini
refuse "ranks: missing data" "nowhere.h5|No such file" ranks 2 "${train[@]}" --data nowhere.h5
refuse "ranks: flipped data" "flipped-data.h5" ranks 2 "${train[@]}" --data flipped-data.h5
refuse "ranks: run directory exists" "run|--force" ranks 2 "${train[@]}" --data data.h5 --run-dir run
refuse "ranks: flipped checkpoint" "flipped-checkpoint.h5" ranks 2 eval --checkpoint flipped-checkpoint.h5 --data data.h5
refuse "ranks: cuda" "--device cuda" ranks 2 info --device cuda
refuse "ranks: batch not divisible, train" "128|3" ranks 3 "${train[@]}" --data data.h5 --batch 128
refuse "ranks: batch not divisible, bench" "128|3" ranks 3 bench "${tiny[@]}" --batch 128
# Two training images are left for three ranks.
refuse "more ranks than images" "3 ranks|2 training images" ranks 3 "${train[@]}" --data ten.h5 --val-fraction 0.8 --batch 3

# ---- help -----------------------------------------------------------------------------------------------------------------

accept "help" "$program" --help
for command in train sweep prepare summary eval predict inspect info bench plot draw augment; do
    says "help names $command" "resnet-dp \[?$command"
done
accept "version" "$program" --version
says "version" '^resnet-dp [0-9]+\.[0-9]+\.[0-9]+ '
while read -r command options; do
    accept "$command --help" "$program" "$command" --help
    for option in $options; do
        says "$command --help lists --$option" "^  --$option "
    done
done <<'END'
train recipe data run-dir force block blocks stem-width widths strides downsample activation shortcut device precision threads epochs batch lr resume
sweep vary title recipe run-dir force epochs batch lr
prepare from synthetic out
summary recipe block blocks stem-width widths strides downsample activation shortcut
eval checkpoint data device precision threads batch evaluate-on
predict checkpoint device precision threads top
inspect
info device threads
bench recipe blocks precision threads batch accumulate bucket-mb overlap sync-bn steps repeats json
plot out
draw recipe blocks widths out
augment recipe data out samples variants seed crop flip rotation-min jitter-hue erase-probability cutout erase-fill normalisation
END

# ---- what works -----------------------------------------------------------------------------------------------------------

accept "summary" "$program" summary
last "summary's last line" "Total params: 4,977,226"
accept "summary of a recipe" "$program" summary --recipe "$recipes/bottleneck-333.ini"
last "summary of a recipe: last line" "Total params: 4,903,082"
accept "the command line beats the recipe" "$program" summary --recipe "$recipes/bottleneck-333.ini" --block basic --widths 64,128,256 \
    --stem-width=64 --blocks 5,4,3
last "the command line beats the recipe: last line" "Total params: 4,771,146"

accept "info" "$program" info
says "info: HDF5" '^  HDF5 +1\.[0-9]+'
says "info: MPI" '^  MPI +[^ ]'
says "info: device" '^  in use +CPU, [0-9]+ threads?, oneDNN [0-9]+\.[0-9]+'
says "info: rank" '^rank 0: host .*local rank 0 of 1'
accept "info, two ranks" env OMP_PROC_BIND=false "$mpiexec" -np 2 "$program" info
says "info: rank 1 of 2" '^rank 1: host .*local rank 1 of 2'
says "info: environment" '^  OMP_PROC_BIND=false$'
judge "info is printed once" "$([ "$(grep -c '^Libraries' "$work/out")" -eq 1 ] || echo "not once")"

accept "eval" "$program" eval --checkpoint "$checkpoint" --data data.h5
last "eval: what train said" "$accuracy"
says "eval: loss" '^Test loss: [0-9]+\.[0-9]+$'
says "eval: the run's batch" ' 20 images per pass$'
says "eval: the run's precision" ', fp32, '
says "eval: per class" ' +[0-9]+ +6 +[0-9.]+ %'
# 128 is the option's default too; given, it counts, and 60 images are all there are.
accept "eval, batch given" "$program" eval --checkpoint "$checkpoint" --data data.h5 --batch=128
says "eval: the command line's batch" ' 60 images per pass$'
last "eval, batch given: what train said" "$accuracy"
accept "eval, all of two ranks" ranks 2 eval --checkpoint "$checkpoint" --data data.h5 --evaluate-on all
last "eval, all of two ranks: what train said" "$accuracy"

# What the checkpoint stores is what was in force, and what eval uses.
accept "training, legacy normalisation" "$program" "${train[@]}" --data data.h5 --run-dir legacy --normalisation legacy
accuracy=$(tail -n 1 "$work/out")
legacy=$(find legacy/checkpoints -name 'ckpt-*.h5' | head -n 1)
accept "eval, legacy normalisation" "$program" eval --checkpoint "$legacy" --data data.h5
last "eval, legacy normalisation: what train said" "$accuracy"
accept "inspect, legacy normalisation" "$program" inspect "$legacy"
says "inspect: the mean in force" '^mean_2 +0\.4465'
says "inspect: the deviation in force" '^std_0 +0\.202(3|2999)'

accept "augment" "$program" augment --data data.h5 --out sheet.png --samples 2 --variants 3 --cutout 8 --seed 5
says "augment: what it wrote" '^sheet\.png: 394 x 198 pixels'
says "augment: epochs as training counts them" ', then epochs 1 to 3$'
accept "what does nothing is named" "$program" "${train[@]}" --data data.h5 --run-dir idle --optimizer adam --nesterov --momentum 0.9
judge "what does nothing is named: twice" "$([ "$(grep -c '^resnet-dp: warning: --[a-z]* does nothing in this run' "$work/err")" -eq 2 ] || echo "not two warnings")"
refuse "augment: more samples than images" "--samples 11|ten.h5|10" "$program" augment --data ten.h5 --out none.png --samples 11
judge "augment: nothing half written" "$([ ! -e none.png ] || echo "none.png exists")"

accept "predict" "$program" predict --checkpoint "$checkpoint" stripes.png
says "predict: three classes" '^stripes\.png:( [a-z-]+ [0-9]+\.[0-9]{2} %,?){3}$'
judge "predict: no warning" "$([ ! -s "$work/err" ] || echo "something on stderr")"
alone=$(cat "$work/out")
accept "predict, another size" "$program" predict --checkpoint "$checkpoint" --top 10 wide.png
judge "predict: warns of the size" "$(grep -q '^resnet-dp: warning: wide.png: 40 x 24 ' "$work/err" || echo "no warning")"
total=$(grep -oE '[0-9]+\.[0-9]{2} %' "$work/out" | awk '{ t += $1 } END { printf "%.1f", t }')
judge "predict: probabilities of all classes" "$(awk -v t="$total" 'BEGIN { if (t < 99.9 || t > 100.1) print "sum is " t }')"
many=()
for ((i = 0; i < 70; i++)); do many+=(stripes.png); done
accept "predict, more than a pass" "$program" predict --checkpoint "$checkpoint" "${many[@]}"
judge "predict: each image alike" "$([ "$(sort -u "$work/out")" = "$alone" ] && [ "$(wc -l <"$work/out")" -eq 70 ] || echo "not 70 of one line")"

bench=(bench "${tiny[@]}" --batch 8 --steps 2 --repeats 2 --json bench.json)
for count in 1 2; do
    accept "bench, ranks: $count" ranks $count "${bench[@]}"
    says "bench, ranks: $count: table" '^training step.* [0-9.]+ +[0-9.]+ +[0-9.]+$'
    for key in images_per_second images_per_second_repeats peak_rss_bytes operations communication \
        convolutions_alone_images_per_second convolutions_alone_direct_images_per_second; do
        judge "bench, ranks: $count: $key" "$(grep -q "^  \"$key\": [0-9[{]" bench.json || echo "not in bench.json")"
    done
    if command -v python3 >/dev/null; then
        accept "bench, ranks: $count: valid JSON" python3 -m json.tool bench.json
    fi
done
says "bench: both kinds of overlap" '"images_per_second_overlap_no": [0-9]'

echo "$checks checks, $failures failed"
exit $((failures > 0))
