"""What waking the thread pool costs: our pool against TVM's, under the same kernels in the same library.

A process a pool, on equally many threads: ours, TVM's (which TVM puts in when it loads a library), and TVM's
told to sleep rather than to spin between calls. They take turns in short rounds, the others stopped. For
kernels of about 5, 20 and 100 us on one thread and pauses between calls, prints medians in microseconds: of
one thread, of each pool, and of ours over each of TVM's in the same round; below 1 ours is faster. Then the
CPU time that a call and the pause before it took with each pool.

    python scripts/bench_pool.py [--threads N] [--rounds 30] [--calls 40]
"""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

import tvmconv
from tvmconv.base.processes import Process, answer_lines
from tvmconv.specs.reference.floats import conv_reference

KERNELS = {
    "k5": "conv2d:1x12x12x64:o64:k3x3:p1:g64:NHWC:float32",
    "k20": "conv2d:1x24x24x64:o64:k3x3:p1:g64:NHWC:float32",
    "k100": "conv2d:1x56x56x64:o64:k3x3:p1:g64:NHWC:float32",
}
PAUSES = (0.0, 100e-6, 2e-3)  # seconds
POOLS = {
    "alone": {"TVMCONV_NUM_THREADS": "1"},
    "ours": {},
    "tvm": {},
    "tvm0": {"TVM_THREAD_POOL_SPIN_COUNT": "0"},
}


def prepared(library: ctypes.CDLL, name: str) -> Callable[[], None]:
    """A call of the C function on data of its own; its result was found to be right."""
    spec = tvmconv.ConvSpec.parse(KERNELS[name])
    entry, prepack, size = (library[name + end] for end in ("", "_prepack", "_packed_bytes"))
    size.restype = ctypes.c_size_t
    entry.argtypes = prepack.argtypes = [ctypes.c_void_p] * 3
    rng = np.random.default_rng(0)
    x, w = (rng.random(shape, np.float32) for shape in (spec.input_shape, spec.weight_shape))
    y, memory = np.empty(spec.output_shape, np.float32), np.empty(size() + 64, np.uint8)
    packed = memory[-memory.ctypes.data % 64 :]
    # These pointers keep their arrays alive.
    at_x, at_packed, at_y = (array.ctypes.data_as(ctypes.c_void_p) for array in (x, packed, y))

    def call() -> None:
        if entry(at_x, at_packed, at_y):
            raise SystemExit(f"{name}: the call failed")

    if prepack(w.ctypes.data, None, packed.ctypes.data):
        raise SystemExit(f"{name}: packing failed")
    call()
    np.testing.assert_allclose(y, conv_reference(spec, x, w), rtol=1e-4)
    return call


class Pool:
    """In a process of its own: the kernels under one pool."""

    def __init__(self) -> None:
        self.calls: dict[str, Callable[[], None]] = {}

    def answer(self, request: list[Any]) -> Any:
        name, *arguments = request
        return getattr(self, name)(*arguments)

    def start(self, pool: str, path: str) -> None:
        """Load the library, and have TVM put its pool in where asked."""
        library = ctypes.CDLL(path)
        if pool.startswith("tvm"):
            import tvm

            own = ctypes.c_void_p.in_dll(library, "__TVMBackendParallelLaunch")
            before, module = own.value, tvm.runtime.load_module(path)
            if own.value == before or not module:
                raise SystemExit("TVM left our pool in the library")
        self.calls = {name: prepared(library, name) for name in KERNELS}

    def time(self, name: str, pause: float, count: int) -> tuple[float, float]:
        """Seconds a call, and CPU seconds."""
        call, times, start = self.calls[name], [], process_time()
        for _ in range(count):
            if pause:
                sleep(pause)
            before = perf_counter()
            call()
            times.append(perf_counter() - before)
        return statistics.median(times), (process_time() - start) / count


def serve() -> None:
    """Answer until the input ends."""
    answer_lines(Pool().answer)


def start(pool: str, path: str, threads: int) -> Process:
    """A process that waits, stopped, for its turn."""
    counts = {name: str(threads) for name in ("TVMCONV_NUM_THREADS", "TVM_NUM_THREADS")}
    process = Process("bench_pool", {**counts, **POOLS[pool]}, stderr=None)
    process.ask(["start", pool, path])
    os.kill(process.start().pid, signal.SIGSTOP)
    return process


def turn(process: Process, name: str, pause: float, calls: int) -> tuple[float, float]:
    """Wake one of the processes for a round."""
    pid = process.start().pid
    os.kill(pid, signal.SIGCONT)
    try:
        wall, cpu = process.ask(["time", name, pause, calls])
    finally:
        os.kill(pid, signal.SIGSTOP)
    return wall, cpu


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each pool")
    parser.add_argument("--rounds", type=int, default=30, help="times that the pools take turns")
    parser.add_argument("--calls", type=int, default=40, help="calls per round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = str(tvmconv.compile(KERNELS).export(Path(folder, "pool.so")))
        workers = {pool: start(pool, path, options.threads) for pool in POOLS}
        print(f"{options.threads} threads; microseconds a call, ours over TVM's, CPU microseconds a call")
        print(f"{'kernel':>6} {'pause':>6}" + "".join(f" {pool:>7}" for pool in POOLS)
              + f" {'/tvm':>6} {'/tvm0':>6}" + "".join(f" {'cpu ' + pool:>9}" for pool in POOLS))  # fmt: skip
        for name in KERNELS:
            for pause in PAUSES:
                rounds = [
                    {pool: turn(worker, name, pause, options.calls) for pool, worker in workers.items()}
                    for _ in range(options.rounds)
                ]
                times, cpu = (
                    [statistics.median(r[p][i] for r in rounds) * 1e6 for p in POOLS] for i in (0, 1)
                )
                ratios = [
                    statistics.median(r["ours"][0] / r[other][0] for r in rounds) for other in ("tvm", "tvm0")
                ]
                print(f"{name:>6} {pause * 1e6:6.0f}" + "".join(f" {t:7.1f}" for t in times)
                      + "".join(f" {r:6.2f}" for r in ratios) + "".join(f" {t:9.1f}" for t in cpu),
                      flush=True)  # fmt: skip
        for process in workers.values():
            process.stop()


if __name__ == "__main__":
    main()
