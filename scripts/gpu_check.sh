#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, in a folder that scripts/gpu_pack.py made: every kind of kernel against the
# reference, compute-sanitizer where it is installed, times against a naive kernel and, with torch, cuDNN.
# Writes gpu_check.json, and gpu_sanitizer.txt. Needs a driver, Python 3.10 and numpy; no internet.
# In the repository it makes that folder first, as build-gpu. PYTHON names the interpreter to use.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
if [ ! -e "$here/kinds.so" ]; then
    folder="$here/../build-gpu"
    [ -e "$folder/kinds.so" ] || "$python" "$here/gpu_pack.py" "$folder"
    exec "$folder/gpu_check.sh"
fi
cd "$here"
export PYTHONPATH="$here"
"$python" -c 'import numpy' || { echo "error: $python has no numpy: pip install numpy" >&2; exit 1; }
status=0
"$python" gpu_check.py --out gpu_check.json || status=$?
sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | tail -n 1 || true)
if [ -n "$sanitizer" ]; then
    for tool in memcheck racecheck synccheck initcheck; do
        echo "== $tool"
        "$sanitizer" --tool "$tool" --error-exitcode 3 "$python" gpu_check.py --only-checks || status=$?
    done >gpu_sanitizer.txt 2>&1
    echo "compute-sanitizer: see gpu_sanitizer.txt" >&2
else
    echo "compute-sanitizer is not installed: nothing of it in the report" >&2
fi
exit "$status"
