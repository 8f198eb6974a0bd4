#!/usr/bin/env bash
# What the target gpu-sanitize runs: test programs under each tool of compute-sanitizer, all of them even if some fail.
#
#   sanitize.sh COMPUTE_SANITIZER PROGRAM...
#
# TOOLS names the tools. Exit code: 0 if nothing was found; 1 if something was, or a test failed or had no GPU.
set -u
sanitizer=$1
shift
SOURCE_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export SOURCE_DIR
read -r -a tools <<<"${TOOLS:-memcheck racecheck initcheck synccheck}"
failed=()
for tool in "${tools[@]}"; do
    for program; do
        printf '==== %s %s\n' "$tool" "${program##*/}"
        # Calls that fail on purpose are no findings: the program looks at what every call returns.
        "$sanitizer" --tool "$tool" --report-api-errors no --error-exitcode 9 "$program" || failed+=("$tool of ${program##*/}: $?")
    done
done
if [ ${#failed[@]} -gt 0 ]; then
    printf 'FAIL %s\n' "${failed[@]}"
    exit 1
fi
echo "nothing found by ${tools[*]}"
