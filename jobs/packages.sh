#!/usr/bin/env bash
# The one list of packages. jobs/local.sh, tests/run.sh and tests/distro.sh take theirs from here.
#
#   jobs/packages.sh list GROUP...     prints the Debian/Ubuntu packages of the groups, one per line
#   jobs/packages.sh install GROUP...  installs those of them that are missing (apt-get; sudo when not root)
#
# Groups: build (compile and run), test (what tests/run.sh adds), clang (the second compiler).
# Exit codes: 0 done, 1 apt-get failed, 2 nothing to install with here: the message lists the packages to install by hand.
set -euo pipefail

build_packages=(
    gcc libc6-dev make cmake ninja-build
    libopenmpi-dev openmpi-bin libhdf5-dev libdnnl-dev libinih-dev librandom123-dev
    libpng-dev libjpeg-dev zlib1g-dev
    curl ca-certificates # fetch the data
)
test_packages=(libcmocka-dev gcovr shellcheck git)
clang_packages=(clang libomp-dev libclang-rt-dev) # the last: sanitizers

list_packages() {
    local group
    for group in "$@"; do
        case $group in
            build) printf '%s\n' "${build_packages[@]}" ;;
            test) printf '%s\n' "${test_packages[@]}" ;;
            clang) printf '%s\n' "${clang_packages[@]}" ;;
            *)
                echo "packages.sh: unknown group '$group' (build, test, clang)" >&2
                exit 2
                ;;
        esac
    done
}

is_installed() {
    # A virtual name (libjpeg-dev on some releases) counts as installed when something provides it.
    # shellcheck disable=SC2016 # the ${...} are dpkg-query's own
    dpkg-query -W -f '${db:Status-Status} ${Package}\n' "$1" 2>/dev/null | grep -q '^installed ' ||
        dpkg-query -W -f '${db:Status-Status} ${Provides}\n' | grep -E "^installed (.*[ ,])?$1( |,|\$)" >/dev/null
}

advise_by_hand() {
    cat >&2 <<TEXT
packages.sh: $1
Install these and start again:
  Debian, Ubuntu (as root):   apt-get install ${missing[*]}
  Fedora, RHEL 9 + EPEL:      dnf install gcc make cmake ninja-build openmpi-devel hdf5-devel inih-devel
                              Random123-devel libpng-devel libjpeg-turbo-devel zlib-devel libcmocka-devel curl
                              oneDNN 2.6 or newer: onednn-devel on Fedora, from source or Spack on RHEL
                              then: module load mpi/openmpi-x86_64
  Arch:                       pacman -S gcc make cmake ninja openmpi hdf5 onednn libinih libpng libjpeg-turbo
                              zlib cmocka curl; random123 from the AUR
TEXT
    exit 2
}

install_packages() {
    local package
    missing=()
    if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
        mapfile -t missing < <(list_packages "$@")
        advise_by_hand "there is no apt-get on this machine, so nothing was checked or installed."
    fi
    while read -r package; do
        is_installed "$package" || missing+=("$package")
    done < <(list_packages "$@")
    if ((${#missing[@]} == 0)); then
        return
    fi
    local as_root=()
    if ((EUID != 0)); then
        command -v sudo >/dev/null || advise_by_hand "missing: ${missing[*]}; this is not root and there is no sudo."
        as_root=(sudo)
    fi
    echo "Installing ${#missing[@]} missing packages: ${missing[*]}"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq ||
        echo "packages.sh: apt-get update failed; trying with the package lists that are here" >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2 || {
        echo "packages.sh: apt-get could not install ${missing[*]}; its messages are above" >&2
        exit 1
    }
}

command=${1:-}
(($# > 1)) || command=help
case $command in
    list) shift && list_packages "$@" ;;
    install) shift && install_packages "$@" ;;
    *)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0" >&2
        exit 2
        ;;
esac
