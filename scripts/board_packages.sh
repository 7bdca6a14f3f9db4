#!/usr/bin/env bash
# The Python packages of a 64-bit Arm board that others tune on ('tvmconv board serve'), in a folder to copy there:
# tvmconv, NumPy, and TVM without its compiler, which is two thirds of it and of no use to a board.
# Usage: scripts/board_packages.sh FOLDER [PYTHON_VERSION]      the board's Python, 3.11 if not said
# Then, on the board:  PYTHONPATH=FOLDER python3 -m tvmconv board serve ...
# PYTHON names the interpreter whose pip is used; 3.10 or newer.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/common.sh"

[ $# = 1 ] || [ $# = 2 ] || die "usage: scripts/board_packages.sh FOLDER [PYTHON_VERSION]"
version=${2:-3.11}
[ ! -e "$1" ] || [ -z "$(ls -A "$1")" ] || die "folder: '$1' is not empty"
python=$(find_python) || die "Python 3.10 or newer is needed"
say "fetching packages for Python $version on aarch64 ..."
"$python" -m pip install --quiet --no-compile --no-warn-conflicts --target "$1" --platform manylinux_2_28_aarch64 \
    --python-version "$version" --only-binary=:all: "$here/..[compile]"
rm -r "$1"/tvm/lib/libtvm_compiler.so "$1"/tvm/{3rdparty,include,src}
say "made $1"
