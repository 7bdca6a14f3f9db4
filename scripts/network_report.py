"""Networks as they come out: whether they agree with onnxruntime, their steps, memory, remaining copies.

    python scripts/network_report.py [--no-run] MODEL.onnx ...

Models with dynamic shapes need them fixed; `scripts/network_models.py` writes some to try.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.graph import Graph
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.memory import plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import place_values
from tvmconv.onnx.reading.model import load
from tvmconv.onnx.reading.session import run

LINE = "{:24} {:>8} {:>9} {:>9} {:>7} {:>8}  {}"


def error_of(path: Path, graph: Graph) -> float:
    """The largest difference from onnxruntime on random inputs, as a part of each result's range."""
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.standard_normal(graph.values[name].shape).astype(graph.values[name].dtype)
        for name in graph.inputs
    }
    model = load(path)
    wanted = run(model, feeds, list(graph.outputs))
    found = interpret(graph, feeds)
    return max(
        float(np.abs(found[name] - array).max() / max(np.ptp(array), 1e-30)) for name, array in wanted.items()
    )


def report(path: Path, runs: bool) -> str:
    """One line of the table."""
    started = time.perf_counter()
    graph = simplified(import_model(path))
    views = place_values(graph)
    memory, took = plan_memory(graph, views), time.perf_counter() - started
    steps: dict[str, int] = {}
    for step in views.steps:
        steps[step.op.kind] = steps.get(step.op.kind, 0) + 1
    moved = sum(piece.count for step in views.copies for piece in step.op.pieces)
    error = f"{error_of(path, graph):.1e}" if runs else "-"
    text = " ".join(f"{kind} {count}" for kind, count in sorted(steps.items()))
    name = path.stem
    return LINE.format(
        name, error, memory.bytes >> 10, memory.bound >> 10, moved * 4 >> 10, f"{took:.1f}", text
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--no-run", action="store_true", help="do not compare with onnxruntime")
    options = parser.parse_args()
    print(LINE.format("network", "error", "arena KiB", "bound KiB", "copied", "plan s", "steps"))
    for path in options.models:
        try:
            print(report(path, not options.no_run), flush=True)
        except Error as error:
            print(f"{path.stem:24} {error}", flush=True)


if __name__ == "__main__":
    main()
