"""What a call through Python costs: a bound function, and a call of it on arrays that were checked before
(``f.on``), against a bare ctypes call of the same C entry.

One thread; they alternate in short rounds, so that all see the same machine. Prints medians in microseconds,
a line a function.

    python scripts/bench_call.py [--rounds 200] [--calls 200] [DESCRIPTOR...]
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
from collections.abc import Callable
from time import perf_counter

import numpy as np

import tvmconv

DESCRIPTORS = (
    "conv2d:1x4x4x8:o8:k1x1:NHWC:float32",
    "conv2d:1x7x7x64:o64:k3x3:p1:g64:NHWC:float32:bias:relu6",
    "conv2d:1x14x14x64:o64:k1x1:NHWC:float32:bias:relu6",
)


def seconds(call: Callable[[], object], calls: int) -> float:
    """Seconds per call, over this many calls."""
    start = perf_counter()
    for _ in range(calls):
        call()
    return (perf_counter() - start) / calls


def measure(
    path: str, name: str, function: tvmconv.Function, rounds: int, calls: int
) -> tuple[float, float, float]:
    """Medians in microseconds: the bare call, the one on arrays checked before, the bound call."""
    rng = np.random.default_rng(0)
    arrays = [rng.random(a.shape, np.float32) for a in function.arguments]
    x, weights, y = arrays[0], arrays[1:-1], arrays[-1]
    bound = function.bind(*weights)
    expected = bound(x)

    library = ctypes.CDLL(path)  # the same library again, as a C programmer in Python would use it
    entry, prepack, size = (library[name + end] for end in ("", "_prepack", "_packed_bytes"))
    size.restype = ctypes.c_size_t
    memory = ctypes.create_string_buffer(size() + 64)
    packed = ctypes.addressof(memory) + -ctypes.addressof(memory) % 64
    entry.argtypes = prepack.argtypes = [ctypes.c_void_p] * 3
    w, bias = [*(a.ctypes.data for a in weights), None][:2]
    if prepack(w, bias, packed) or entry(x.ctypes.data, packed, y.ctypes.data):
        raise SystemExit(f"{name}: the bare call failed")
    np.testing.assert_array_equal(y, expected)

    x_at, y_at = x.ctypes.data, y.ctypes.data
    ways = (lambda: entry(x_at, packed, y_at), bound.on(x, out=y), lambda: bound(x, out=y))
    taken = [[seconds(way, calls) for way in ways] for _ in range(rounds)]
    bare, checked, through = (statistics.median(column) * 1e6 for column in zip(*taken, strict=True))
    return bare, checked, through


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("descriptors", nargs="*", default=DESCRIPTORS, metavar="DESCRIPTOR")
    parser.add_argument("--rounds", type=int, default=200, help="times that the two alternate")
    parser.add_argument("--calls", type=int, default=200, help="calls of each in a round")
    options = parser.parse_args()
    module = tvmconv.compile(list(options.descriptors)).load()
    tvmconv.set_num_threads(1)
    print(f"{'bare us':>9} {'f.on us':>9} {'f us':>9}")
    for name, function in module.functions.items():
        taken = measure(str(module.path), name, function, options.rounds, options.calls)
        print(*(f"{us:9.2f}" for us in taken), "", function.descriptor)


if __name__ == "__main__":
    main()
