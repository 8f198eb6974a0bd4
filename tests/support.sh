# shellcheck shell=bash
# What the scripts that train share: cases, runs, a small data set. Sourced. A case is begun by `begin NAME`, `fault TEXT` says
# what is wrong with it, and the next `begin` or `verdict` closes it with one line. Every case has a directory of its own, and
# runs in it train into `run`: two runs of equal options then leave equal bytes, since a checkpoint names its run directory.
: "${RESNET_DP:?the program}"
mpiexec=${MPIEXEC:-mpirun}
# On memory if possible: nothing here is about the disk, and every file of a run waits for it twice.
work=$(mktemp -d -p /dev/shm rdp-XXXXXX 2>/dev/null || mktemp -d)
passed=0 failed=0 skipped=0 problem="" name="" code=0 process=0
# Open MPI's libfabric and PSM layers cost a second at the start and at the end of every run.
export OMPI_MCA_pml=${OMPI_MCA_pml-ob1}
# Killed ranks leave their shared memory behind: here it goes with the rest.
export OMPI_MCA_btl_vader_backing_directory=$work OMPI_MCA_btl_sm_backing_directory=$work
export LC_ALL=C

# seconds_since START (a value of EPOCHREALTIME)
seconds_since() {
    awk -v begin="$1" -v end="$EPOCHREALTIME" 'BEGIN { printf "%.1f", end - begin }'
}

close_case() {
    [ -n "$name" ] || return 0
    if [ -z "$problem" ]; then
        echo "ok   $name ($(seconds_since "$begun") s)"
        passed=$((passed + 1))
    else
        echo "FAIL $name ($(seconds_since "$begun") s):$problem"
        tail -n 15 err 2>/dev/null
        failed=$((failed + 1))
    fi
    cd "$work" || exit 1
    name=""
}

begin() {
    close_case
    name=$1 problem="" begun=$EPOCHREALTIME
    case_dir=$(mktemp -d -p "$work")
    cd "$case_dir" || exit 1
    ln -s "$work/data.h5" .
}

fault() {
    problem+=" $*;"
}

# skip REASON: the case cannot run here. Nothing more of it may follow.
skip() {
    echo "skip $name: $*"
    skipped=$((skipped + 1))
    cd "$work" || exit 1
    name=""
}

# As the last command: closes the last case, says how many passed, and is the script's verdict.
verdict() {
    close_case
    echo "$passed passed, $failed failed, $skipped skipped"
    cd / && rm -rf "$work"
    [ "$failed" -eq 0 ]
}

# launch GUARD... -- RANKS ARGUMENT...: replaces this (sub)shell by the program, under mpirun unless RANKS is 0. Output in out, err.
launch() {
    local command=()
    while [ "$1" != -- ]; do
        command+=("$1")
        shift
    done
    [ "$2" -eq 0 ] || command+=("$mpiexec" -np "$2")
    shift 2
    exec "${command[@]}" "$RESNET_DP" "$@" >out 2>err
}

# start RANKS ARGUMENT...: in the background; sets process. finish must follow.
start() {
    (launch -- "$@") &
    process=$!
}

# rank_process RANK: its process number, of the job that $process started under mpirun.
rank_process() {
    local candidate
    for candidate in $(ps -o pid= --ppid "$process"); do
        if tr '\0' '\n' <"/proc/$candidate/environ" | grep -qx -e "OMPI_COMM_WORLD_RANK=$1" -e "PMIX_RANK=$1"; then
            echo "$candidate"
        fi
    done
}

is_gone() {
    ! kill -0 "$process"
}

# finish SECONDS EXIT_CODE: the process ends by itself in that time, with that code ("any": not with 0).
finish() {
    await "$1" is_gone || {
        fault "still there after $1 s"
        kill -KILL "$process"
    }
    wait "$process" 2>/dev/null
    code=$?
    if [ "$2" = any ]; then
        [ "$code" -ne 0 ] || fault "exit code 0"
    else
        [ "$code" -eq "$2" ] || fault "exit code $code, not $2"
    fi
}

# run EXIT_CODE RANKS ARGUMENT...: ends within run_limit seconds.
run_limit=60
run() {
    local expected=$1
    shift
    (launch timeout -k 5 "$run_limit" -- "$@")
    code=$?
    [ "$code" -eq "$expected" ] || fault "exit code $code, not $expected, of $*"
}

# in_dir DIRECTORY COMMAND...: with the directory made, and its err kept for the case's report.
in_dir() {
    local here=$PWD status
    { mkdir -p "$1" && cd "$1"; } || exit 1
    ln -sf "$work/data.h5" .
    shift
    "$@"
    status=$?
    cp err "$here/err" 2>/dev/null
    cd "$here" || exit 1
    return "$status"
}

# said COUNT TEXT: so many lines of err hold the text.
said() {
    local count
    count=$(grep -c -e "$2" err)
    [ "$count" -eq "$1" ] || fault "$count times \"$2\" on stderr, not $1"
}

# equal A B FILE...: of two run directories' parents.
equal() {
    local a=$1 b=$2 file
    shift 2
    for file; do
        cmp -s "$a/run/$file" "$b/run/$file" || fault "$file differs between $a and $b"
    done
}

# await SECONDS COMMAND...: until the command succeeds.
await() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.05
    done
}

# rows FILE: how many lines a file has, 0 if there is none.
rows() {
    if [ -f "$1" ]; then wc -l <"$1"; else echo 0; fi
}

# has_rows FILE COUNT
has_rows() {
    [ "$(rows "$1")" -ge "$2" ]
}

# prepare TRAIN TEST: the data set, which every case finds as data.h5.
prepare() {
    "$RESNET_DP" prepare --synthetic --synthetic-train "$1" --synthetic-test "$2" --out "$work/data.h5" >/dev/null || exit 1
}

# A network that trains an epoch of a thousand images in well under a second. --resume auto in a new directory begins anew.
# shellcheck disable=SC2034 # for those who source this
small=(--data data.h5 --run-dir run --blocks 1 --widths 16 --stem-width 16 --batch 48 --lr 0.02 --threads 1 --conv-algorithm direct --no-plot
    --no-progress --step-log)
