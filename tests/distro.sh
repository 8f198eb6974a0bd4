#!/usr/bin/env bash
# Builds and tests this work tree in a bare Debian root, so that a distribution's own compiler, MPI, HDF5 and oneDNN are used.
#
#   tests/distro.sh [OPTION]... [RELEASE]... [COMPILER]...
#
#   RELEASE   bookworm (Debian 12), trixie (Debian 13); both by default
#   COMPILER  gcc, clang; both by default
#   --local   run jobs/local.sh instead of the tests, always from a bare root: from a clone to an accuracy line. Its
#             arguments follow "--". CIFAR10_DIR is made visible inside if it is set.
#   --fresh   tests too start from a bare root; otherwise from one with the packages in it
#   --create  only make the roots
#   --shell   a shell in the root instead of the tests
#
# Needs root (chroot, mounts), debootstrap and a Debian mirror. Roots are kept as tar files in $RDP_ROOTS (default:
# ~/.cache/resnet-dp-roots); each run unpacks its own copy and removes it at the end. Not part of tests/run.sh.
set -euo pipefail

fail() {
    echo "distro.sh: $*" >&2
    exit 2
}

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
roots=${RDP_ROOTS:-${XDG_CACHE_HOME:-$HOME/.cache}/resnet-dp-roots}
mode=tests
fresh=no
releases=()
compilers=()
arguments=()
while (($#)); do
    case $1 in
        bookworm | trixie) releases+=("$1") ;;
        gcc | clang) compilers+=("$1") ;;
        --local | --create | --shell) mode=${1#--} ;;
        --fresh) fresh=yes ;;
        --)
            shift
            arguments=("$@")
            break
            ;;
        *)
            sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" >&2
            fail "unknown argument '$1'"
            ;;
    esac
    shift
done
((${#releases[@]})) || releases=(bookworm trixie)
((${#compilers[@]})) || compilers=(gcc clang)
[[ $mode != local ]] || compilers=(gcc)
((EUID == 0)) || fail "needs root for chroot and mounts; try: sudo tests/distro.sh"
for tool in debootstrap unshare chroot tar; do
    command -v "$tool" >/dev/null || fail "needs $tool (Debian packages: debootstrap util-linux coreutils tar)"
done
mkdir -p "$roots"
work=$(mktemp -d "$roots/run.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT

# The host's mirror, if the host is a Debian: it may be a near or the only reachable one.
find_mirror() {
    local uri
    uri=$({
        sed -nE 's/^URIs: *([^ ]+).*/\1/p' /etc/apt/sources.list.d/*.sources
        sed -nE 's/^deb +(\[[^]]*\] +)?([^ ]+) .*/\2/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.list
    } 2>/dev/null | grep -E '/debian/?$' | sed -n 1p || true)
    echo "${uri:-http://deb.debian.org/debian}"
}

# Name resolution, proxies and certificates of the host: what a machine behind a mirror needs to reach anything.
copy_network_setup() {
    local root=$1 file
    cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
    for file in /etc/apt/apt.conf /etc/apt/apt.conf.d/*; do
        if [[ -f $file ]] && grep -q 'Acquire' "$file"; then
            cp "$file" "$root/etc/apt/apt.conf.d/"
        fi
    done
    mkdir -p "$root/etc/apt/auth.conf.d" "$root/usr/local/share/ca-certificates" "$root/etc/ssl/certs"
    cp -r /etc/apt/auth.conf.d/. "$root/etc/apt/auth.conf.d/" 2>/dev/null || true
    cp -r /usr/local/share/ca-certificates/. "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    if [[ -f /etc/ssl/certs/ca-certificates.crt && ! -f $root/etc/ssl/certs/ca-certificates.crt ]]; then
        cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
    fi
}

# Runs COMMAND... in ROOT with own mounts and processes: whatever it leaves behind ends with it.
run_in() {
    local root=$1 data_dir=""
    shift
    if [[ $mode == local && -n ${CIFAR10_DIR:-} ]]; then
        data_dir=$(readlink -f "$CIFAR10_DIR")
        [[ -d $data_dir ]] || fail "CIFAR10_DIR=$CIFAR10_DIR is not a directory: inside the root only directories can be shown"
        mkdir -p "$root/mnt/cifar10"
    fi
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --pid --fork --propagation private bash -euc '
        root=$1 data_dir=$2
        shift 2
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount --rbind /sys "$root/sys"
        mount -t tmpfs tmpfs "$root/tmp"
        if [[ -n $data_dir ]]; then
            mount --bind "$data_dir" "$root/mnt/cifar10"
            mount -o remount,bind,ro "$root/mnt/cifar10"
            export CIFAR10_DIR=/mnt/cifar10
        fi
        exec chroot "$root" "$@"
    ' run_in "$root" "$data_dir" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \
        TERM="${TERM:-dumb}" "${inside_environment[@]}" "$@"
}

inside_environment=()
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY RANKS; do
    [[ -z ${!name:-} ]] || inside_environment+=("$name=${!name}")
done
if [[ $mode == local && -n ${CIFAR10_DIR:-} ]]; then
    inside_environment+=("CIFAR10_DIR=/mnt/cifar10")
fi

unpack() { # unpack TAR DIR
    rm -rf --one-file-system "$2"
    mkdir -p "$2"
    tar -xpf "$1" -C "$2"
}

pack() { # pack DIR TAR: complete or absent
    tar --one-file-system -cpf "$work/packed.tar" -C "$1" .
    mv "$work/packed.tar" "$2"
}

create_bare() {
    local release=$1 mirror
    [[ ! -f $roots/$release-bare.tar ]] || return 0
    mirror=$(find_mirror)
    echo "distro.sh: debootstrap of $release from $mirror"
    debootstrap --variant=minbase "$release" "$work/bare" "$mirror" >"$work/debootstrap.log" 2>&1 || {
        tail -n 20 "$work/debootstrap.log" >&2
        fail "debootstrap of $release from $mirror failed"
    }
    printf 'deb %s %s main\ndeb %s %s-updates main\n' "$mirror" "$release" "$mirror" "$release" \
        >"$work/bare/etc/apt/sources.list"
    rm -rf "$work/bare/var/cache/apt/archives"/*.deb
    pack "$work/bare" "$roots/$release-bare.tar"
    rm -rf --one-file-system "$work/bare"
}

create_with_packages() {
    local release=$1
    [[ ! -f $roots/$release-packages.tar ]] || return 0
    echo "distro.sh: installing the packages in $release"
    unpack "$roots/$release-bare.tar" "$work/packages"
    copy_network_setup "$work/packages"
    install -D "$source_dir/jobs/packages.sh" "$work/packages/root/packages.sh"
    run_in "$work/packages" /root/packages.sh install build test clang >"$work/packages.log" 2>&1 || {
        tail -n 20 "$work/packages.log" >&2
        fail "installing the packages in $release failed"
    }
    rm -rf "$work/packages/var/cache/apt/archives"/*.deb "$work/packages/var/lib/apt/lists"/*
    pack "$work/packages" "$roots/$release-packages.tar"
    rm -rf --one-file-system "$work/packages"
}

# The work tree as a clone would have it, changes and new files included, ignored files left out.
copy_source() {
    mkdir -p "$1"
    git -C "$source_dir" ls-files -z --cached --others --exclude-standard |
        while IFS= read -r -d '' file; do
            [[ ! -e $source_dir/$file ]] || printf '%s\0' "$file"
        done | tar -C "$source_dir" --null -T - -cf - | tar -C "$1" --no-same-owner -xf -
}

verdicts=()
failed=0
for release in "${releases[@]}"; do
    create_bare "$release"
    start=$roots/$release-bare.tar
    if [[ $mode != local && $fresh == no ]]; then
        create_with_packages "$release"
        start=$roots/$release-packages.tar
    fi
    [[ $mode != create ]] || continue
    for compiler in "${compilers[@]}"; do
        root=$work/root
        unpack "$start" "$root"
        copy_network_setup "$root"
        copy_source "$root/root/resnet-dp"
        case $mode in
            local) command=(/root/resnet-dp/jobs/local.sh "${arguments[@]}") ;;
            shell) command=(bash) ;;
            # The lint and coverage stages look at the source, not at the distribution: they run once, in tests/run.sh.
            *) command=(env CC="$compiler" /root/resnet-dp/tests/run.sh release asan) ;;
        esac
        echo "distro.sh: $release, $compiler: ${command[*]}"
        begin=$SECONDS
        verdict=passed
        run_in "$root" "${command[@]}" || verdict="FAILED ($?)"
        [[ $verdict == passed ]] || failed=1
        verdicts+=("$(printf '%-10s %-6s %-14s %4d s' "$release" "$compiler" "$verdict" $((SECONDS - begin)))")
        rm -rf --one-file-system "$root"
    done
done
if ((${#verdicts[@]})); then
    echo "distro.sh:"
    printf '  %s\n' "${verdicts[@]}"
fi
exit "$failed"
