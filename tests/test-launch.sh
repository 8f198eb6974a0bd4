#!/usr/bin/env bash
# Cores and threads: mpirun's default binding is widened, an explicit one respected, shared cores are divided, and every core of
# the host is used by exactly one rank if there are enough.
set -u
probe=$PROBE_DIR/launch-probe
mpiexec=${MPIEXEC:-mpirun}
# The defaults of mpirun are what is tested here.
unset OMPI_MCA_hwloc_base_binding_policy PRTE_MCA_hwloc_default_binding_policy OMP_NUM_THREADS
cores=$(lscpu -p=CORE,SOCKET | grep -v '^#' | sort -u | wc -l)
allowed=$(nproc)
if [ "$allowed" -ne "$(lscpu -p=CPU | grep -cv '^#')" ] || [ "$cores" -ne "$allowed" ]; then
    echo "skipped: this test counts on all CPUs being allowed and each being a core ($allowed CPUs, $cores cores)"
    exit 77
fi
failures=0

# expect NAME SUM_OF_THREADS RANKS [mpirun option]... -- [probe argument]...: and masks that differ if there is a core for each.
expect() {
    local name=$1 sum=$2 ranks=$3 options=() out got masks total
    shift 3
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    out=$("$mpiexec" -np "$ranks" ${options[@]+"${options[@]}"} "$probe" "$@" 2>&1)
    got=$(grep -c '^threads' <<<"$out") masks=$(sed -n 's/^threads.* mask \(.*\) note.*/\1/p' <<<"$out" | sort -u | wc -l)
    total=$(awk '/^threads/ { n += $2 } END { print n + 0 }' <<<"$out")
    if [ "$got" -ne "$ranks" ] || [ "$total" -ne "$sum" ] || { [ "$ranks" -le "$cores" ] && [ "$masks" -ne "$ranks" ]; } ||
       [ "$(grep -c '^rank [0-9]*: host ' <<<"$out")" -ne "$ranks" ]; then
        echo "FAIL $name: $got ranks of $ranks, $total threads of $sum, $masks masks"
        echo "$out"
        failures=$((failures + 1))
    else
        echo "ok   $name: $(grep '^threads' <<<"$out" | sort | tr '\n' ';')"
    fi
}

expect "one rank, default binding" "$cores" 1 --
expect "one rank, no binding" "$cores" 1 --bind-to none --
expect "one rank, bound to a core" 1 1 --bind-to core --
expect "one rank, threads asked for" 1 1 -- 1
# shellcheck disable=SC2016 # for that shell to expand
expect "a wrapper script between" "$cores" 1 sh -c '"$0" "$@"; exit $?' --
if [ "$cores" -ge 2 ]; then
    expect "two ranks, default binding" "$cores" 2 --
    expect "two ranks, no binding" "$cores" 2 --bind-to none --
fi
more=$((cores + 1))
expect "more ranks than cores" "$more" "$more" --
exit $((failures > 0))
