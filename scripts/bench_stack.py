#!/usr/bin/env python3
"""How much a kernel's time depends on where its caller's stack is, with aligned spills and without.

    python scripts/bench_stack.py [SPEC ...] [--target TARGET] [--step BYTES] [--processes N]

Calls each kernel, on one thread, with the stack pointer at every multiple of 16 in a page (x86-64 only), and
prints of the least time at each place: the median in us, the worst over it, and at how many places it was
above 1.1. A line for kernels whose spills LLVM may lay across cache lines, and one for those that tvmconv
makes. With --processes the places are where the system puts the stacks of that many fresh processes.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import tvmconv

SPECS = [
    "conv2d:1x56x56x144:o144:k5x5:p2:g144:NHWC:float32",
    "conv2d:1x224x224x3:o32:k3x3:s2:p1:NHWC:float32",
    "conv2d:1x56x56x144:o144:k3x3:p1:g144:NHWC:int8",
]
PAGE = 4096
CALLER = r"""
#include <time.h>
/* The least ns of `times` calls of f(a[0], a[1], a[2]) with the stack pointer at `offset` in a page. */
long least(int (*f)(void *, void *, void *), void **a, long offset, int times) {
  long best = 1L << 60;
  struct timespec from, to;
  while (times--) {
    clock_gettime(CLOCK_MONOTONIC, &from);
    __asm__ volatile(
        "mov %%rsp, %%rbx\n\t"
        "and $-4096, %%rsp\n\t"
        "sub $8192, %%rsp\n\t"
        "add %[offset], %%rsp\n\t"
        "call *%[f]\n\t"
        "mov %%rbx, %%rsp"
        :
        : [f] "r"(f), [offset] "r"(offset), "D"(a[0]), "S"(a[1]), "d"(a[2])
        : "rax", "rbx", "rcx", "r8", "r9", "r10", "r11", "cc", "memory");
    clock_gettime(CLOCK_MONOTONIC, &to);
    long ns = (to.tv_sec - from.tv_sec) * 1000000000L + to.tv_nsec - from.tv_nsec;
    if (ns < best) best = ns;
  }
  return best;
}
"""


def kernels(specs: dict[str, str], target: str, folder: Path, *, aligned: bool) -> tvmconv.Module:
    """The kernels of these specs, with or without the pass that aligns what they spill."""
    from tvmconv.compiler.codegen import build_kernel  # here: the fresh processes need no compiler
    from tvmconv.compiler.lower import pipeline
    from tvmconv.compiler.lower.rewrite import func_pass
    from tvmconv.schedules.machines import resolve
    from tvmconv.specs.kinds import parse_spec

    kept, machine = pipeline.AlignSpills, resolve(target)
    if not aligned:
        pipeline.AlignSpills = func_pass("none", lambda body: body)
    try:
        built = {name: build_kernel(parse_spec(spec), machine) for name, spec in specs.items()}
    finally:
        pipeline.AlignSpills = kept
    library = tvmconv.Library(built, machine, prefix=f"stack_{aligned}".lower())
    return tvmconv.load(library.export(folder / f"{aligned}.so"))


class Call:
    """A kernel with its operands, for the C function that chooses where the stack is."""

    def __init__(self, caller: ctypes.CDLL | None, function: tvmconv.Function) -> None:
        rng = np.random.default_rng(0)
        filled = {  # quantisation: scales of 1, zero points of 0
            a.name: np.full(a.shape, "scale" in a.name, a.dtype)
            if "scale" in a.name or "zero_point" in a.name
            else rng.integers(-4, 5, a.shape).astype(a.dtype)
            for a in function.arguments
        }
        x, w, *others, y = map(tvmconv.aligned, filled.values())
        self.bound = function.bind(w, None, *others)
        self.held = x, y
        self.arguments = (ctypes.c_void_p * 3)(x.ctypes.data, self.bound._pointer, y.ctypes.data)
        self.entry = ctypes.cast(function._entry, ctypes.c_void_p)
        if caller is not None:
            self.least = caller.least
            self.least.restype = ctypes.c_long

    def ns(self, offset: int, times: int) -> int:
        """The least time of a few calls from this place."""
        return self.least(self.entry, self.arguments, ctypes.c_long(offset), times)


def sweep(calls: list[Call], step: int, rounds: int) -> list[list[int]]:
    """Of each call the least ns at each place; they take turns. What looks slow is tried again, for other
    programs make a place look slow too."""
    places = range(0, PAGE, step)
    best = [[sys.maxsize] * len(places) for _ in calls]
    for turn in range(rounds):
        for call, least in zip(calls, best, strict=True):
            above = 1.03 * statistics.median(least) if turn >= 2 else 0
            for i, offset in enumerate(places):
                if least[i] > above:
                    least[i] = min(least[i], call.ns(offset, 4))
    return best


FRESH = """
import sys, time
import bench_stack, tvmconv
call = bench_stack.Call(None, tvmconv.load(sys.argv[1])[sys.argv[2]])
x, y = call.held
run, best, end = call.bound.on(x, out=y), float("inf"), time.monotonic() + 0.4
while time.monotonic() < end:
    start = time.perf_counter_ns()
    run()
    best = min(best, time.perf_counter_ns() - start)
print(best)
"""


def fresh(paths: list[Path], name: str, processes: int) -> list[list[int]]:
    """The least ns of each library in each of this many processes; they take turns."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "TVMCONV_NUM_THREADS": "1"}
    taken: list[list[int]] = [[] for _ in paths]
    for _ in range(processes):
        for path, ns in zip(paths, taken, strict=True):
            line = [sys.executable, "-c", FRESH, str(path), name]
            ns.append(int(subprocess.run(line, check=True, capture_output=True, env=environment).stdout))
    return taken


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("specs", nargs="*", default=SPECS, metavar="SPEC")
    parser.add_argument("--target", default="native")
    parser.add_argument("--step", type=int, default=16, help="bytes between places, a multiple of 16")
    parser.add_argument("--rounds", type=int, default=20, help="times over all places")
    parser.add_argument("--processes", type=int, default=0, help="fresh processes to time in, instead")
    options = parser.parse_args()
    tvmconv.set_num_threads(1)
    specs = {f"f{i}": spec for i, spec in enumerate(options.specs)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "caller.c").write_text(CALLER)
        line = ["cc", "-O1", "-shared", "-fPIC", "-o", folder / "caller.so", folder / "caller.c"]
        subprocess.run(line, check=True)
        caller = ctypes.CDLL(str(folder / "caller.so"))
        ways = [kernels(specs, options.target, folder, aligned=aligned) for aligned in (False, True)]
        print(f"{'spills':>8} {'median us':>9} {'worst':>6} {'>1.10':>6}")
        for f in specs:
            if options.processes:
                taken = fresh([module.path for module in ways], f, options.processes)
            else:
                taken = sweep([Call(caller, module[f]) for module in ways], options.step, options.rounds)
            for which, ns in zip(("as LLVM", "aligned"), taken, strict=True):
                middle = statistics.median(ns)
                slow = sum(n > 1.1 * middle for n in ns)
                times = f"{middle / 1e3:9.1f} {max(ns) / middle:6.2f} {slow:6} of {len(ns)}"
                print(f"{which:>8} {times} ", specs[f], flush=True)


if __name__ == "__main__":
    main()
