#!/bin/bash
# Prints what each of our CUDA kernels takes of a multiprocessor: registers, bytes spilled, stack, static shared memory.
# Needs nvcc, no GPU. A kernel that spills makes the script fail (exit 1), because a spill in a loop over activations
# costs memory traffic that nobody sees in the source; no nvcc is a skip (exit 77).
#
#   tests/cuda-resources.sh [ARCHITECTURE...]     default: 80 90 100, those that nvcc knows
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
nvcc=${NVCC:-$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)}
if [ ! -x "$nvcc" ]; then
    echo "skipped: no nvcc in PATH; set NVCC to it"
    exit 77
fi
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

architectures=("$@")
if [ ${#architectures[@]} = 0 ]; then
    known=$("$nvcc" --list-gpu-code)
    for architecture in 80 90 100; do
        if grep -qx "sm_$architecture" <<<"$known"; then
            architectures+=("$architecture")
        fi
    done
fi

printf '%-6s %-15s %-48s %9s %7s %6s %7s\n' arch file kernel registers spilled stack shared
spilled=0
for architecture in "${architectures[@]}"; do
    for source in "$root"/kernels/cuda/*.cu; do
        name=$(basename "$source" .cu)
        log=$build/$name.log
        if ! "$nvcc" -std=c++17 -O3 -arch="sm_$architecture" -Werror all-warnings -Xcompiler=-Wall,-Wextra -Xptxas -v \
            -I"$root" -I"$root/src" -c "$source" -o "$build/$name.o" >"$log" 2>&1; then
            cat "$log" >&2
            exit 1
        fi
        # ptxas tells of a kernel in three lines: its name, its stack and spills, what it uses.
        c++filt <"$log" | awk -v arch="sm_$architecture" -v file="$name.cu" '
            /Compiling entry function/ {
                kernel = $0
                sub(/^[^\047]*\047/, "", kernel)
                sub(/\(anonymous namespace\)::/, "", kernel)
                sub(/^void /, "", kernel)
                sub(/\(.*/, "", kernel)
            }
            /bytes stack frame/ { stack = $1; spill = $5 }
            /Used [0-9]+ registers/ {
                shared = 0
                if (match($0, /[0-9]+ bytes smem/))
                    shared = substr($0, RSTART, RLENGTH) + 0
                match($0, /Used [0-9]+/)
                printf "%-6s %-15s %-48s %9d %7d %6d %7d\n", arch, file, kernel, substr($0, RSTART + 5, RLENGTH - 5), spill,
                    stack, shared
                if (spill > 0)
                    bad = 1
            }
            END { exit bad }' || spilled=1
    done
done
if [ $spilled = 1 ]; then
    echo "a kernel spills registers: fewer packs in flight (AHEAD) or fewer threads per block" >&2
    exit 1
fi
