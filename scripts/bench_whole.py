"""Whole networks beside onnxruntime: median time of a call, batch 1, interleaved, as a ratio.

    python scripts/bench_whole.py model.onnx ... [--threads 1 2] [--rounds 20] [--shape x=1x3x224x224]

Each round times both, one after the other, for --sample-ms at least; a ratio is of a round's medians: one
above 1 says that ours is faster. Both are in one process, so onnxruntime's threads may spin in ours.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tvmconv
from tvmconv.network import checking, compiling
from tvmconv.onnx.reading.model import parse_shapes
from tvmconv.onnx.reading.session import require_runtime


def session_call(path: Path, feeds: dict[str, np.ndarray], threads: int) -> Callable[[], object]:
    """A call of onnxruntime on the model, on so many threads."""
    runtime = require_runtime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    return lambda: session.run(names, feeds)


def sampled(call: Callable[[], object], seconds: float) -> float:
    """Seconds of a call: the median of those that fit in."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def compared(path: Path, shapes: list[str], threads: int, rounds: int, seconds: float) -> str:
    """A line about a model."""
    network = compiling.read(path, parse_shapes(shapes))
    module = compiling.compile(network).load()
    feeds = checking.feeds_of(network)
    worst = max(one.relative for one in checking.compare(network, module, feeds))
    tvmconv.set_num_threads(threads)
    function = module["main"]
    given = [tvmconv.aligned(array) for array in checking.arguments_of(network, feeds)]
    results = function(*given)
    ours = function.on(*given, out=results if isinstance(results, tuple) else (results,))
    theirs = session_call(path, feeds, threads)
    pairs = []
    for _ in range(rounds + 1):
        pairs.append((sampled(ours, seconds), sampled(theirs, seconds)))
    mine, other = (statistics.median(times) * 1e3 for times in zip(*pairs[1:], strict=True))
    ratio = statistics.median(b / a for a, b in pairs[1:])
    return f"{path.stem:<24} {threads:>7} {mine:>9.3f} {other:>11.3f} {ratio:>6.2f} {worst:>8.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--sample-ms", type=float, default=20)
    parser.add_argument("--shape", action="append", default=[], help="as of `tvmconv compile`")
    options = parser.parse_args()
    print("network                  threads   ours ms  onnxruntime  ratio    error")
    for path in options.models:
        for threads in options.threads:
            seconds = options.sample_ms / 1e3
            print(compared(path, options.shape, threads, options.rounds, seconds), flush=True)


if __name__ == "__main__":
    main()
