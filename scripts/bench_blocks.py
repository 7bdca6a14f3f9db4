"""Blocks inside whole networks: each against the layers that it stands for and those of other engines, in µs.

    python scripts/network_models.py --out models
    python scripts/bench_blocks.py models/mobilenet_v1.onnx models/mobilenet_v2.onnx \\
        models/mobilenet_v3_large.onnx models/efficientnet_b0.onnx models/mnasnet.onnx models/mnasnet_se.onnx

A network is compiled with all blocks that there can be and without any; runs of both take turns. A step's
time is its shortest of all runs, between its neighbours, so that weights are as cold and what it reads as
warm as there; what other programs do at the time matters little. Other engines run the same model, each in
its own process and in turns with ours, and their own profilers tell the time of each node: that of the
nodes of a block is the shortest of each, summed, without what turns layouts between them, so weights are as
cold for them. "l/fma": the layers' time over that of their multiply-adds alone at the measured peak of this
machine, which is the most that any block could gain ("-": of integers). "rule": whether a network has the
block by default. "chosen": the faster peer's time over that of what a network has, block or layers.

The command above takes about 4 minutes on two idle CPUs (an EPYC, Zen 4), compiling included.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import tvmconv
from tvmconv.base.processes import Process, ProcessError
from tvmconv.bench import roofline
from tvmconv.bench.engines.session import log
from tvmconv.bench.ratios import geometric_mean
from tvmconv.formats.logs.lookup import Logs
from tvmconv.network import compiling
from tvmconv.network.checking import feeds_of
from tvmconv.network.choosing import gains
from tvmconv.onnx.reading.model import parse_shapes
from tvmconv.runtime.steps import Steps
from tvmconv.schedules.machines import Machine, resolve
from tvmconv.specs.block import BlockSpec
from tvmconv.specs.pitched import parse_work

PEERS = ("onnxruntime", "openvino")
LARGE = 28 * 28  # pixels of a result, from which on blocks have a mean of their own
TURNS = 3  # of each engine


class Run:
    """A library of a network: ``best``, the shortest time of each step, in µs."""

    def __init__(self, network: Any, blocks: str, target: str, path: Path, feeds: Mapping[str, Any]) -> None:
        library = compiling.compile(network, target, blocks=blocks)
        self.module = tvmconv.load(library.export(path))
        (entry,) = self.module.manifest["functions"]
        self.steps = Steps(self.module, "main", *feeds.values())
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


class Peer:
    """Another engine on the model: ``nodes``, (µs, convolutions) of each, the shortest time of all turns."""

    def __init__(self, engine: str, files: Mapping[str, str]) -> None:
        self.engine, self.files = engine, files
        self.nodes: dict[str, tuple[float, int]] = {}

    def sample(self, threads: int, runs: int) -> None:
        """A turn, in a process of its own."""
        process = Process("node_times", {"OMP_NUM_THREADS": str(threads)})
        try:
            said = process.ask({"engine": self.engine, **self.files, "threads": threads, "runs": runs}, 300)
        except ProcessError as problem:
            said = {"error": str(problem)}
        finally:
            process.stop()
        if "error" in said:
            log(f"{self.engine}: {said['error']}")
        for name, (us, count) in said.get("nodes", {}).items():
            self.nodes[name] = min((us, count), self.nodes.get(name, (float("inf"), count)))

    def of(self, sources: frozenset[str], convs: int) -> float | None:
        """The time of these nodes; None if not all of their convolutions are known by their names."""
        found = [self.nodes[name] for name in sources if name in self.nodes]
        return sum(us for us, _ in found) if sum(count for _, count in found) >= convs else None


@dataclass(frozen=True)
class Row:
    """A block: µs of it, of our layers apart, of multiply-adds alone, of peers' by name; whether it is what a
    network has."""

    spec: BlockSpec
    text: str
    fused: float
    apart: float
    least: float | None
    peers: Mapping[str, float]
    rule: bool

    @property
    def gain(self) -> float:
        """Of the block over its layers."""
        return self.apart / self.fused

    @property
    def most(self) -> float | None:
        """What any block could gain."""
        return None if self.least is None else self.apart / self.least

    @property
    def chosen(self) -> float | None:
        """The faster peer's time over that of what a network has."""
        return min(self.peers.values()) / (self.fused if self.rule else self.apart) if self.peers else None

    @property
    def best(self) -> float | None:
        """The faster peer's time over the block's."""
        return min(self.peers.values()) / self.fused if self.peers else None

    def __str__(self) -> str:
        cells = [f"{self.peers[name]:.0f}" if name in self.peers else "-" for name in PEERS]
        found = (self.gain, self.most, self.best, self.chosen)
        ratios = ["-" if ratio is None else f"{ratio:.2f}" for ratio in found]
        return line([f"{self.fused:.0f}", f"{self.apart:.0f}", *cells], ratios, self.rule, self.text)


def line(times: Sequence[str], ratios: Sequence[str], rule: bool, text: str) -> str:
    columns = "".join(f"{cell:>9}" for cell in times) + "".join(f"{cell:>8}" for cell in ratios)
    return f"{columns}  {'rule' if rule else '-':<4}  {text}"


def rows(fused: Run, apart: Run, peers: Sequence[Peer], logs: Logs, peak: float) -> Iterator[Row]:
    """Each block of the network; ``peak``: operations a second."""
    for work, sources, us in zip(fused.works, fused.sources, fused.best, strict=True):
        spec = work.dense
        if str(spec).startswith("block"):  # other steps are operators, or other layers
            convs = 1 if spec.scale else len(spec.parts())
            others = {peer.engine: peer.of(sources, convs) for peer in peers}
            known = {engine: time for engine, time in others.items() if time is not None}
            least = None if spec.is_integer else 2e6 * spec.macs / peak
            yield Row(spec, str(work), us, apart.of(sources), least, known, gains(spec, logs))


def measure(
    source: Path, machine: Machine, peaks: Mapping[int, float], options: argparse.Namespace
) -> dict[int, list[Row]]:
    """Print a network's blocks; they, by the number of threads, as ``peaks`` are: operations a second."""
    network = compiling.read(source, parse_shapes(options.shape))
    logs, made = Logs(machine, None, cold=True), {}
    with tempfile.TemporaryDirectory() as folder:
        feeds, files = feeds_of(network), {"model": str(source), "feeds": f"{folder}/feeds.npz"}
        np.savez(files["feeds"], **feeds)
        ours = [Run(network, blocks, options.target, Path(folder) / f"{blocks}.so", feeds)
                for blocks in ("always", "never")]  # fmt: skip
        for threads in options.threads:
            tvmconv.set_num_threads(threads)
            peers = [Peer(engine, files) for engine in options.peers]
            for run in ours:
                run.reset()
            for _ in range(TURNS):
                for _ in range(-(-options.runs // TURNS)):
                    for run in ours:
                        run.sample()
                for peer in peers:
                    peer.sample(threads, -(-options.runs // TURNS))
            with_all, without = (sum(run.best) for run in ours)
            totals = f"{with_all:.0f} with all blocks, {without:.0f} without, µs"
            print(f"{source.stem}, {threads} threads: {totals}")
            made[threads] = list(rows(*ours, peers, logs, peaks[threads]))
            print("\n".join(map(str, made[threads])), flush=True)
    return made


def means(found: Sequence[Row]) -> Iterator[str]:
    """Geometric means of ratios."""
    for what, taken in (
        ("blocks of the rule", [row for row in found if row.rule]),
        (f"of them, {LARGE} pixels or more",
         [row for row in found if row.rule and prod(row.spec.out_spatial) >= LARGE]),
        ("all", found),
    ):  # fmt: skip
        if taken:
            chosen = [row.chosen for row in taken if row.chosen is not None]
            low = [row for row in taken if row.rule and row.gain < 1]
            peer = f", peer/chosen {geometric_mean(chosen):.2f}" if chosen else ""
            most = [row.most for row in taken if row.most is not None]
            fma = f", layers/fma {geometric_mean(most):.2f}" if most else ""
            yield (f"{what}: layers/block {geometric_mean([row.gain for row in taken]):.2f} of {len(taken)}, "
                   f"{len(low)} of the rule's below 1{fma}{peer}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--target", default="native")
    parser.add_argument("--shape", action="append", default=[], help="as of `tvmconv compile`")
    options = parser.parse_args()
    ratios = ["l/block", "l/fma", "p/block", "chosen"]
    print(line(["block", "layers", "ORT", "OpenVINO"], ratios, True, "descriptor"))
    machine = resolve(options.target)
    peaks = {n: roofline.measure(machine, ["float32"], n).peak["float32"] for n in options.threads}
    every: dict[int, list[Row]] = {threads: [] for threads in options.threads}
    for source in options.models:
        for threads, found in measure(source, machine, peaks, options).items():
            every[threads] += found
    for threads, found in every.items():
        print(f"{threads} threads\n" + "\n".join(f"  {text}" for text in means(found)))


if __name__ == "__main__":
    main()
