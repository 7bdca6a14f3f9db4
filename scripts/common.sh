# Sourced by the scripts beside it: finding Python and a C compiler, and making virtual environments.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

# Install Debian packages where that is possible; $1 says what for.
apt_install() {
    local purpose=$1 log
    shift
    command -v apt-get >/dev/null || die "$purpose is missing, and there is no apt-get to install it with"
    [ "$(id -u)" = 0 ] || die "$purpose is missing; as root: apt-get install $*"
    say "installing $purpose: apt-get install $*"
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    apt-get update >"$log" 2>&1 || say "apt-get update failed; trying with the package lists that are there"
    if ! apt-get install -y --no-install-recommends "$@" >>"$log" 2>&1; then
        tail -n 20 "$log" >&2
        die "apt-get could not install $*; its output is in $log"
    fi
    rm -f "$log"
}

# Print a Python of at least 3.10: $PYTHON if it is set, else the first that runs.
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python3.10; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return 0
        fi
        if [ -n "${PYTHON:-}" ]; then
            say "PYTHON=$PYTHON does not run, or is older than 3.10"
            return 1
        fi
    done
    return 1
}

# make_venv DIR: a fresh virtual environment, with pip.
make_venv() {
    local python version
    if ! python=$(find_python); then
        [ -z "${PYTHON:-}" ] || exit 1
        apt_install "Python 3.10 or newer" python3 python3-venv
        python=$(find_python) || die "Python 3.10 or newer is needed; this system's is older"
    fi
    # Debian's python3 comes without these two until python3-venv is installed.
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "Python's venv module" "python$version-venv"
    fi
    "$python" -m venv --clear "$1" || die "$python could not make a virtual environment in $1"
}

# Whether a C compiler works, headers and libraries included.
have_cc() {
    local compiler source='#include <pthread.h>
int probe(void) { return (int)sizeof(pthread_t); }'
    for compiler in ${CC:+"$CC"} cc gcc clang; do
        if printf '%s\n' "$source" | "$compiler" -x c -shared -fPIC - -o /dev/null >/dev/null 2>&1; then
            return 0
        fi
        [ -z "${CC:-}" ] || return 1
    done
    return 1
}
