#!/usr/bin/env bash
# From a clone to a trained network on this machine: packages, build, data, training with jobs/recipes/quick.ini.
#
#   jobs/local.sh [--OPTION VALUE]...    options go to `resnet-dp train` and override the recipe
#
#   RANKS                number of MPI ranks (default 1: one process whose threads use every core)
#   CIFAR10_DIR          directory of the official CIFAR-10 binaries (data_batch_1.bin ...), or their .tar.gz
#   RESNET_DP_DATA_DIR   where the data set file cifar10.h5 is kept (default: ./data in the clone)
#   RESNET_DP_BUILD_DIR  build folder (default: ./build/local in the clone)
#
# Exit codes: that of resnet-dp; 1: apt-get failed; 2: something is missing or wrong. The message says what.
set -euo pipefail

fail() {
    echo "local.sh: $*" >&2
    exit 2
}

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data_dir=${RESNET_DP_DATA_DIR:-$source_dir/data}
build_dir=${RESNET_DP_BUILD_DIR:-$source_dir/build/local}
ranks=${RANKS:-1}
program=$build_dir/resnet-dp
archive_url=https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz
archive_md5=c32a1d4ab5d03f1284b67883e8d87530

[[ $ranks =~ ^[1-9][0-9]*$ ]] || fail "RANKS=$ranks is not a positive number"
# Said before minutes of installing and building; what is inside, `resnet-dp prepare` verifies.
[[ -z ${CIFAR10_DIR:-} || -e $CIFAR10_DIR ]] ||
    fail "CIFAR10_DIR=$CIFAR10_DIR does not exist: name the folder of data_batch_1.bin ... or the .tar.gz, or unset it"

# Where nothing can be installed from here (code 2; the packages have been listed), the libraries may still be there, from
# modules or another package manager: the build decides, and names what it lacks.
install_packages() {
    local status=0
    "$source_dir/jobs/packages.sh" install build || status=$?
    ((status == 0 || status == 2)) || exit "$status"
    if ((status == 2)); then
        echo "local.sh: trying with what is here" >&2
        command -v cmake >/dev/null || fail "there is no cmake"
    fi
}

build_program() {
    local generator=()
    if [[ ! -f $build_dir/CMakeCache.txt ]] && command -v ninja >/dev/null; then
        generator=(-G Ninja)
    fi
    echo "Building in $build_dir"
    mkdir -p "$build_dir"
    if ! cmake -S "$source_dir" -B "$build_dir" "${generator[@]}" -DBUILD_TESTING=OFF >"$build_dir/configure.log" 2>&1; then
        cat "$build_dir/configure.log" >&2
        fail "cmake could not configure; its message is above"
    fi
    sed -n '/: dependencies/,/^$/p' "$build_dir/configure.log"
    cmake --build "$build_dir" --target resnet-dp --parallel "$(nproc)"
}

# Fetches and verifies the official archive into $1. Fails fast when there is no network.
download_archive() {
    local target=$1
    echo "Fetching $archive_url (170 MB)"
    if command -v curl >/dev/null; then
        curl --fail --location --silent --show-error --connect-timeout 10 --max-time 300 --output "$target" "$archive_url" || return 1
    elif command -v wget >/dev/null; then
        timeout 300 wget --quiet --tries=1 --connect-timeout=10 --output-document="$target" "$archive_url" || return 1
    else
        echo "local.sh: neither curl nor wget is here" >&2
        return 1
    fi
    if ! echo "$archive_md5  $target" | md5sum --check --status; then
        echo "local.sh: what came from $archive_url is not the official archive (MD5 differs); it is not used" >&2
        return 1
    fi
}

# Sets data_file.
prepare_data() {
    mkdir -p "$data_dir"
    data_file=$data_dir/cifar10.h5
    if [[ -n ${CIFAR10_DIR:-} ]]; then
        "$program" prepare --from "$CIFAR10_DIR" --out "$data_file"
        return
    fi
    if [[ -f $data_file ]]; then
        echo "Using the data set that is here: $data_file"
        return
    fi
    local archive=$data_dir/cifar-10-binary.tar.gz
    if download_archive "$archive.part"; then
        mv "$archive.part" "$archive"
        "$program" prepare --from "$archive" --out "$data_file"
        rm "$archive"
        return
    fi
    rm -f "$archive.part"
    data_file=$data_dir/synthetic.h5
    cat >&2 <<'TEXT'

  ***********************************************************************************************
  *  CIFAR-10 could not be had: CIFAR10_DIR is not set, no cifar10.h5 lies in the data folder,  *
  *  and the download failed.                                                                   *
  *  Training runs on a SYNTHETIC data set: its accuracy shows that the program works, no more. *
  *  For the real data set CIFAR10_DIR to the official binaries or their .tar.gz; start again.  *
  ***********************************************************************************************

TEXT
    "$program" prepare --synthetic --out "$data_file"
}

train() {
    if ((EUID == 0)); then
        # In the words of Open MPI 4 and 5; other MPI libraries do not mind root.
        export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
    fi
    # Open MPI binds a rank to one core when there are one or two of them, and refuses more ranks than cores: one rank with
    # all threads would then train on a single core. The program sizes its threads by itself.
    export OMPI_MCA_rmaps_base_oversubscribe=1 PRTE_MCA_rmaps_default_mapping_policy=:oversubscribe
    export OMPI_MCA_hwloc_base_binding_policy=none PRTE_MCA_hwloc_default_binding_policy=none
    # All ranks are on this machine: no TCP between them, about which Open MPI 5 complains where there is no network.
    export OMPI_MCA_btl=^tcp,openib,uct,ofi
    local precision=()
    if ! grep -q -s avx512 /proc/cpuinfo; then
        echo "This CPU has no AVX-512, which the recipe's bf16 needs: training in fp32"
        precision=(--precision fp32)
    fi
    exec mpirun -np "$ranks" "$program" train --recipe "$source_dir/jobs/recipes/quick.ini" --data "$data_file" \
        "${precision[@]}" "$@"
}

install_packages
build_program
prepare_data
train "$@"
