#!/usr/bin/env bash
# All checks, from a bare machine: a fresh virtual environment, ruff, import-linter, mypy, pytest.
# Usage: scripts/test.sh [PYTEST ARGUMENTS]      e.g. scripts/test.sh tests/specs/test_spec.py -x
# PYTHON names the interpreter to use; 3.10 or newer.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/common.sh

# The tests compile C and C++ programs against the libraries and their headers.
have_cc || apt_install "a C compiler" gcc g++ libc6-dev
# The guide to builds uses it.
command -v cmake >/dev/null || apt_install "CMake" cmake make
# One of the programs of the tutorial for deployers is in Rust; a download of 55 MB where its compiler is missing.
command -v rustc >/dev/null || apt_install "Rust" rustc
# Libraries for ARM and RISC-V run under qemu-user, in small systems of those architectures.
command -v qemu-aarch64 >/dev/null || apt_install "qemu's user-mode emulation" qemu-user
[ -d /usr/riscv64-linux-gnu/lib ] || apt_install "RISC-V's C library" libc6-riscv64-cross
# Libraries for musl run in programs that its compiler links.
command -v musl-gcc >/dev/null || apt_install "musl" musl-tools
# Each shell completes the command line.
command -v zsh >/dev/null && command -v fish >/dev/null || apt_install "zsh and fish" zsh fish
# Pages are opened in a browser.
{ command -v chromium && command -v chromedriver; } >/dev/null || apt_install "Chromium" chromium chromium-driver
# LLVM's models of CPUs say how good the kernels for ARM are.
command -v llvm-mca-19 >/dev/null || apt_install "llvm-mca" llvm-19

work=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$work"' EXIT
export TVMCONV_CACHE="$work/cache"  # nothing compiled earlier may pass for today's work
export TVMCONV_ALL_TOOLS=1          # a missing tool is a failure, not a skipped test
export TVMCONV_ROOTS="$work/roots"
unset PYTHONDONTWRITEBYTECODE       # the tests start a thousand processes: none compiles what it imports
roots=()
for arch in arm64 armhf; do
    scripts/debian_root.sh "$arch" "$TVMCONV_ROOTS/$arch" &
    roots+=($!)
done

say "making a fresh virtual environment ..."
make_venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --editable ".[test]"
for root in "${roots[@]}"; do wait "$root"; done

checks() {
    local status=0
    "$python" -m ruff check . || status=$?
    "$work/venv/bin/lint-imports" || status=$?  # which room may import which: pyproject.toml
    "$python" -m mypy || status=$?
    return "$status"
}
checks >"$work/checks" 2>&1 &
checking=$!
# What an emulated board needs to be tuned on.
version=$("$TVMCONV_ROOTS/arm64/python3" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PYTHON=$python scripts/board_packages.sh "$TVMCONV_ROOTS/board" "$version"

# Run both even if one fails. Files go to the processes in the order of tests/conftest.py: the longest first.
status=0
"$python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" || status=$?
wait "$checking" || status=$?
cat "$work/checks"
exit "$status"
