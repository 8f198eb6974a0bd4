#!/usr/bin/env bash
# Sets everything up and runs all tests: the one command before a change is handed in, and what .ci/run calls.
#
#   tests/run.sh [STAGE]...    all stages by default
#
#   lint      shellcheck of every script
#   release   optimised build with warnings as errors; every test
#   asan      AddressSanitizer and UndefinedBehaviorSanitizer; every test but those of label cli
#   coverage  gcov build; every test but those of label long; line coverage by folder
#
# CC=clang takes the other compiler (not for coverage, which needs gcc's gcov). Ends with a table of the stages; exit code
# 0 only if all passed.
set -euo pipefail

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$source_dir"
compiler=${CC:-gcc}
jobs=$(nproc)

stages=("$@")
if ((${#stages[@]} == 0)); then
    stages=(lint release asan coverage)
fi
for stage in "${stages[@]}"; do
    case $stage in
        lint | release | asan | coverage) ;;
        *)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$source_dir/tests/run.sh" >&2
            echo "run.sh: unknown stage '$stage'" >&2
            exit 2
            ;;
    esac
done

# build PRESET: configures and builds it; sets build_dir.
build() {
    build_dir=$source_dir/build/$1
    [[ $compiler == gcc ]] || build_dir+=-${compiler##*/}
    local generator=()
    [[ -f $build_dir/CMakeCache.txt ]] || generator=(-G Ninja)
    cmake --preset "$1" -B "$build_dir" "${generator[@]}" -DCMAKE_C_COMPILER="$compiler"
    cmake --build "$build_dir" --parallel "$jobs"
}

run_tests() {
    ctest --test-dir "$build_dir" --parallel "$jobs" --output-on-failure --no-tests=error "$@"
}

stage_lint() {
    shopt -s nullglob
    shellcheck -x jobs/*.sh jobs/slurm/* tests/*.sh bench/*.sh .ci/run
}

stage_release() {
    build release
    run_tests
}

stage_asan() {
    build asan
    run_tests -LE cli
}

stage_coverage() {
    # From an empty folder: counts of earlier runs and of files that are gone would be added.
    rm -rf "$source_dir/build/coverage"
    build coverage
    run_tests -LE long
    # gcovr's table has a line per file; ours one per folder and the sum.
    gcovr --root "$source_dir" --object-directory "$build_dir" -j "$jobs" --csv \
        --filter "$source_dir/(src|kernels|comm|io)/" "$build_dir" >"$build_dir/coverage.csv"
    awk -F, '
        NR > 1 {
            folder = $1
            if (!sub("/[^/]*$", "", folder)) folder = "."
            if (!(folder in lines)) order[++count] = folder
            lines[folder] += $2; covered[folder] += $3; all += $2; all_covered += $3
        }
        END {
            if (all == 0) { print "run.sh: gcovr found no lines" > "/dev/stderr"; exit 1 }
            printf "Line coverage\n"
            for (i = 1; i <= count; i++) {
                f = order[i]
                printf "  %-16s %6.1f %%  %6d of %6d lines\n", f, 100 * covered[f] / lines[f], covered[f], lines[f]
            }
            printf "  %-16s %6.1f %%  %6d of %6d lines\n", "all", 100 * all_covered / all, all_covered, all
        }' "$build_dir/coverage.csv"
}

groups=(build test)
[[ $compiler != clang* ]] || groups+=(clang)
jobs/packages.sh install "${groups[@]}"

verdicts=()
failed=()
for stage in "${stages[@]}"; do
    begin=$SECONDS
    printf '\n==== %s (%s) ====\n' "$stage" "$compiler"
    # A subshell of its own, and not as a condition: there `set -e` would not stop at the first failing command.
    set +e
    (
        set -e
        "stage_$stage"
    )
    status=$?
    set -e
    verdict=passed
    if ((status)); then
        verdict=FAILED
        failed+=("$stage")
    fi
    verdicts+=("$(printf '%-9s %-7s %4d s' "$stage" "$verdict" $((SECONDS - begin)))")
done

printf '\n==== summary ====\n'
printf '  %s\n' "${verdicts[@]}"
if ((${#failed[@]})); then
    echo "tests/run.sh: FAILED: ${failed[*]} (of ${#stages[@]} stages, $SECONDS s)"
    exit 1
fi
echo "tests/run.sh: all ${#stages[@]} stages passed ($SECONDS s)"
