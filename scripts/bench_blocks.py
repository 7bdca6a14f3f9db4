"""Blocks inside whole networks: each against the layers that it stands for, in µs.

    python scripts/network_models.py --out models
    python scripts/bench_blocks.py models/mobilenet_v2.onnx [--threads 1 2] [--runs 40] [--target native]

A network is compiled with all blocks that there can be and without any; runs of both take turns. A step's
time is its shortest of all runs, between its neighbours, so that weights are as cold as there; what other
programs do at the time matters little. "rule": whether a network has the block by default.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tvmconv
from tvmconv.bench.ratios import geometric_mean
from tvmconv.formats.logs.lookup import Logs
from tvmconv.network import compiling
from tvmconv.network.checking import feeds_of
from tvmconv.network.choosing import gains
from tvmconv.onnx.reading.model import parse_shapes
from tvmconv.runtime.steps import Steps
from tvmconv.schedules.machines import resolve
from tvmconv.specs.pitched import parse_work


class Run:
    """A library of a network: ``best``, the shortest time of each step, in µs."""

    def __init__(self, network: Any, blocks: str, target: str, path: Path) -> None:
        library = compiling.compile(network, target, blocks=blocks)
        self.module = tvmconv.load(library.export(path))
        (entry,) = self.module.manifest["functions"]
        self.steps = Steps(self.module, "main", *feeds_of(network).values())
        self.works = [parse_work(text) for text in entry["steps"]]
        self.sources = [frozenset(names) for names in entry["sources"]]
        self.reset()

    def reset(self) -> None:
        """Forget times."""
        self.best = [float("inf")] * len(self.steps)

    def sample(self) -> None:
        """Run it once."""
        self.best = [min(pair) for pair in zip(self.best, (s * 1e6 for s in self.steps.run()), strict=True)]

    def of(self, sources: frozenset[str]) -> float:
        """The time of the steps that come from these nodes alone."""
        found = zip(self.sources, self.best, strict=True)
        return sum(us for names, us in found if names and names <= sources)


def rows(fused: Run, apart: Run, logs: Logs) -> Iterator[tuple[float, float, bool, str]]:
    """(µs of the block, of the layers, whether it is the rule's choice, descriptor) of each block."""
    for work, sources, us in zip(fused.works, fused.sources, fused.best, strict=True):
        if getattr(work.dense, "family", "") == "block":
            yield us, apart.of(sources), gains(work.dense, logs), str(work)


def measure(source: Path, shapes: Sequence[str], target: str, threads: Sequence[int], runs: int) -> None:
    """Print a network's blocks."""
    network = compiling.read(source, parse_shapes(shapes))
    logs = Logs(resolve(target), None, cold=True)
    with tempfile.TemporaryDirectory() as folder:
        fused = Run(network, "always", target, Path(folder) / "fused.so")
        apart = Run(network, "never", target, Path(folder) / "apart.so")
        for count in threads:
            tvmconv.set_num_threads(count)
            for run in (fused, apart):
                run.reset()
            for _ in range(runs):
                fused.sample()
                apart.sample()
            totals = f"{sum(fused.best):.0f} with all blocks, {sum(apart.best):.0f} without, µs"
            print(f"{source.stem}, {count} threads: {totals}")
            found = list(rows(fused, apart, logs))
            for us, others, rule, text in found:
                print(f"{us:>9.0f} {others:>9.0f} {others / us:>6.2f}  {'rule' if rule else '-':<4}  {text}")
            chosen = [others / us for us, others, rule, _ in found if rule]
            if chosen:
                print(f"geometric mean of the rule's {len(chosen)}: {geometric_mean(chosen):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--target", default="native")
    parser.add_argument("--shape", action="append", default=[], help="as of `tvmconv compile`")
    options = parser.parse_args()
    print(f"{'block':>9} {'layers':>9} {'ratio':>6}")
    for source in options.models:
        measure(source, options.shape, options.target, options.threads, options.runs)


if __name__ == "__main__":
    main()
