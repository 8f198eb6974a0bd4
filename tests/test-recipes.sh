#!/usr/bin/env bash
# Every recipe that is delivered: it parses, its network has exactly the parameters that its first lines promise, and it trains
# from its file with one rank and with two. Only lengths and sizes are cut, and the precision is one that every CPU has: the
# optimiser, the schedule, the augmentation and all else that the recipe asks for run as they are, for two epochs.
# labels: long
set -u
# shellcheck source=tests/support.sh
. "$SOURCE_DIR/tests/support.sh"
images=24 tests=16
prepare "$images" "$tests"
# A few checkpoints of five million parameters are more than a container's memory disk may hold.
disk=$(mktemp -d)
trap 'rm -rf "$disk"' EXIT

# shellcheck disable=SC2054
declare -A parameters=(
    [basic-1111]=4,903,242 [basic-543]=4,771,146 [basic-3643]=4,883,626 [bottleneck-333]=4,903,082
    [basic-2111]=4,977,226 [basic-6543-half]=4,865,322 [basic-small]=696,618 [quick]=1,204,378 [fast94]=2,458,154
    [best-5m]=4,616,362
    [resnet20]=269,722 [resnet32]=464,154 [resnet44]=658,586 [resnet56]=853,018 [resnet110]=1,727,962
)

# has_count FILE COUNT: the summary's last line, and the recipe's head.
has_count() {
    run 0 0 summary --recipe "$1"
    [ "$(tail -n 1 out)" = "Total params: $2" ] || fault "the summary ends with \"$(tail -n 1 out)\", not $2 parameters"
    sed '/^\[/,$d' "$1" | tr -s '\n; ' ' ' | grep -qF "$2 parameters" || fault "its first lines do not say $2 parameters"
}

# trains FILE RANKS: two epochs of a few steps, to the line that scripts count on.
trains() {
    run 0 "$2" train --recipe "$1" --data data.h5 --run-dir "$disk/run" --batch 8 --epochs 2 --precision fp32 --threads 1 \
        --no-plot --no-progress --checkpoint-epochs 2 --keep 1
    [ "$(grep -cE "^Test accuracy: [0-9.]+ % \([0-9]+ of $tests\)$" out)" -eq 1 ] || fault "$2 ranks: no accuracy line"
    [ "$(rows "$disk/run/metrics.csv")" -eq 3 ] || fault "$2 ranks: not two epochs in metrics.csv"
    rm -rf "$disk/run"
}

for recipe in "$SOURCE_DIR"/jobs/recipes/*.ini; do
    name_of=$(basename "$recipe" .ini)
    begin "$name_of"
    count=${parameters[$name_of]-}
    unset "parameters[$name_of]"
    if [ -z "$count" ]; then
        fault "not in this test's table of parameters: add it"
        continue
    fi
    has_count "$recipe" "$count"
    trains "$recipe" 1
    trains "$recipe" 2
done

begin "the table names recipes that exist"
[ ${#parameters[@]} -eq 0 ] || fault "no such files: ${!parameters[*]}"
verdict
