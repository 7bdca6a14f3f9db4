"""One table: every layer on every engine at one number of threads."""

from __future__ import annotations

import sys

import numpy as np

from tvmconv.bench.models import example
from tvmconv.bench.ratios import OURS, Row, summarise
from tvmconv.bench.worker import EngineError, Worker
from tvmconv.spec import ConvSpec

FEWEST_CLEAN = 3


class Table:
    """All layers and engines at one number of threads."""

    def __init__(self, engines: list[str], threads: int, cpus: list[int], options: dict, rounds: int):
        self.engines, self.threads, self.cpus, self.rounds = engines, threads, cpus, rounds
        self.options, self.workers = options, {}

    def run(self, specs: list[ConvSpec], nothing: ConvSpec, cpu: str) -> dict:
        """Print the table; return it for --json. Raises EngineError."""
        try:
            for name in self.engines:
                log(f"{self.threads} threads: starting {name}")
                self.workers[name] = Worker(name, self.threads, self.cpus, self.options)
            versions = {name: worker.version for name, worker in self.workers.items()}
            where = ",".join(map(str, self.cpus))
            print(f"\n{cpu}, {self.threads} thread(s) on CPU {where}, float32, µs a call")
            print("; ".join(f"{name}: {version}" for name, version in versions.items()))
            width = max(len(str(spec)) for spec in specs)
            print(self.line("layer", width, {n: n for n in self.engines}, "GFLOP/s", "ratio", "best"))
            rows = []
            for number, spec in enumerate(specs, 1):
                rows.append(self.time(spec, f"{self.threads} threads: {number}/{len(specs)}"))
                print(self.show(rows[-1], str(spec), width), flush=True)
            busy = self.busy(max(specs, key=lambda spec: spec.flops))
            overhead = self.time(nothing, f"{self.threads} threads: cost of a call")
            print(self.show(overhead, "(a call that does next to nothing)", width))
            told = (f"{name} {b['threads']} ({b['cores']:.1f})" for name, b in busy.items())
            print("threads that worked, and cores that they filled:", ", ".join(told))
            if any(said["doubtful"] for row in rows for said in row.detail.values()):
                print(f"! fewer than {FEWEST_CLEAN} samples without other processes on our cores")
            means = summarise(rows, [name for name in self.engines if name != OURS])
            if OURS in self.engines:
                self.show_means(means)
            return {
                "threads": self.threads, "cpus": self.cpus, "versions": versions, "busy": busy,
                "call_us": overhead.us, "layers": [as_json(row) for row in rows], "means": means,
            }  # fmt: skip
        finally:
            for worker in self.workers.values():
                worker.close()

    def hold(self, spec: ConvSpec, step: str) -> dict[str, dict]:
        """Have every engine set the layer up; name -> what it said, of those that can run it."""
        layer, held = example(spec), {}
        for name, worker in self.workers.items():
            log(f"{step} {spec} {name}", over=True)
            said = worker.ask("layer", layer)
            if "wrong" in said:
                wrong = f"wrong, error {said['error']:.3g} of the largest value"
                raise EngineError(f"{name} ({said['wrong']}): {spec}: {wrong}")
            if "unsupported" in said and name == OURS:
                raise EngineError(f"ours: {spec}: {said['unsupported']}")
            if "unsupported" in said:
                log(f"{name} does not run {spec}: {said['unsupported']}")
            else:
                held[name] = said
        return held

    def time(self, spec: ConvSpec, step: str) -> Row:
        held = self.hold(spec, step)
        samples: dict[str, list[dict]] = {name: [] for name in held}
        for turn in range(self.rounds):
            log(f"{step} {spec} round {turn + 1}/{self.rounds}", over=True)
            order = list(held)
            shift = turn % max(len(order), 1)
            for name in order[shift:] + order[:shift]:
                samples[name].append(self.workers[name].ask("sample"))
        for name, taken in samples.items():
            held[name] |= statistic(taken)
        return Row(spec, {name: said["us"] for name, said in held.items()}, held)

    def busy(self, spec: ConvSpec) -> dict[str, dict]:
        return {name: self.workers[name].ask("probe") for name in self.hold(spec, "threads")}

    def line(self, layer: str, width: int, cells: dict, gflops: str, ratio: str, best: str) -> str:
        columns = [f"{layer:{width}}"]
        for name in self.engines:
            columns.append(f"{cells.get(name, '-'):>9}")
            if name == OURS:
                columns.append(f"{gflops:>8}")
        return " ".join([*columns, f"{ratio:>6}", best]).rstrip()

    def show(self, row: Row, title: str, width: int) -> str:
        cells = {name: f"{us:.1f}{'!' * row.detail[name]['doubtful']}" for name, us in row.us.items()}
        best, gflops = row.best(), row.gflops
        return self.line(title, width, cells, number(gflops, 1), number(row.ratio(best)), best or "-")

    def show_means(self, means: dict) -> None:
        columns = list(means["all"])
        heads = (f"{c:>{max(9, len(c))}}" for c in columns)
        print("\n" + " ".join([f"{'geometric mean of ratios':26}", *heads]))
        for kind, values in means.items():
            cells = [str(v) if isinstance(v, int) else number(v) for v in values.values()]
            sized = (f"{cell:>{max(9, len(c))}}" for cell, c in zip(cells, columns, strict=True))
            print(" ".join([f"{kind:26}", *sized]))


def statistic(samples: list[dict]) -> dict:
    """Median, minimum and interquartile range in µs of the undisturbed samples, or of all if they are few."""
    clean = [s["seconds"] for s in samples if not s["disturbed"]]
    doubtful = len(clean) < min(FEWEST_CLEAN, len(samples))
    us = np.array([s["seconds"] for s in samples] if doubtful else clean) * 1e6
    low, middle, high = np.quantile(us, (0.25, 0.5, 0.75))
    return {
        "us": float(middle), "min_us": float(us.min()), "iqr_us": float(high - low),
        "samples": len(samples), "clean_samples": len(clean), "doubtful": doubtful,
    }  # fmt: skip


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def as_json(row: Row) -> dict:
    best = row.best()
    return {
        "descriptor": str(row.spec), "kind": row.spec.kind, "flops": row.spec.flops, "bytes": row.spec.bytes,
        "gflops": row.gflops, "best": best, "ratio": row.ratio(best), "engines": dict(row.detail),
    }  # fmt: skip


def log(message: str, over: bool = False) -> None:
    """A line on stderr; with `over`, one that the next replaces, on a terminal only."""
    if not over:
        print(f"\r\x1b[K{message}" if sys.stderr.isatty() else message, file=sys.stderr, flush=True)
    elif sys.stderr.isatty():
        print(f"\r\x1b[K{message[:110]}", end="", file=sys.stderr, flush=True)
