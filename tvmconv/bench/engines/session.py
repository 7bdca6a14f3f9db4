"""Engines in their processes, taking turns on one layer after the other."""

from __future__ import annotations

import sys
from dataclasses import replace

from tvmconv.base.clock import TRIES, last_cache, near_cache, statistic
from tvmconv.bench.engines.layer_data import example
from tvmconv.bench.engines.worker import EngineError, Worker
from tvmconv.bench.limits import doubtful, fastest, probe_names
from tvmconv.bench.ratios import OURS, Row
from tvmconv.specs.kinds import Spec

MOST_COPIES = 24  # of the weights of a layer, in as many instances of an engine
_WHOLE = 0.8  # of the peak of multiply-adds: with less, other load shares our cores


class Session:
    """A worker an engine while the context lasts. ``options``: see ``worker.Bench`` and the engines; with
    ``probes``, each layer's limits are sampled in turns with it.

    Two CPUs of a virtual machine may share a core, or one may share a neighbour's, for seconds on end, and
    everything takes twice as long: if the peak of multiply-adds before or after a round shows this, the round
    counts as disturbed for all engines, and is repeated."""

    def __init__(self, engines: list[str], threads: int, cpus: list[int], options: dict, rounds: int):
        self.engines, self.threads, self.cpus, self.rounds = engines, threads, cpus, rounds
        self.options, self.workers = options, {}
        self.peaks: dict[str, float] = {}  # by probe

    def __enter__(self) -> Session:
        try:
            for name in self.engines:
                log(f"{self.threads} threads: starting {name}")
                self.workers[name] = Worker(name, self.threads, self.cpus, self.options)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *failure: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def copies(self, spec: Spec) -> int:
        """Of a layer's weights, so that each is far away when its turn comes again: together twice the last
        cache, or as many as engines can be asked to hold; 0 if these would stay in the nearer caches."""
        layer = example(spec)
        bytes_ = sum(array.nbytes for name, array in layer.arrays.items() if name not in layer.inputs)
        if MOST_COPIES * bytes_ < 2 * near_cache() * self.threads:
            return 0
        return max(2, min(MOST_COPIES, -(-2 * last_cache() // bytes_)))

    def hold(self, spec: Spec, step: str, copies: int = 0) -> dict[str, dict]:
        """Have every engine set the layer up; name -> what it said, of those that can run it. ``copies``: of
        the weights, to be cold."""
        layer, held = example(spec), {}
        for name, worker in self.workers.items():
            log(f"{step} {spec} {name}", over=True)
            said = worker.hold(layer, copies)
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

    def time(self, spec: Spec, step: str, copies: int = 0) -> Row:
        """A layer by every engine; with so many ``copies`` of its weights, if not 0."""
        held = self.hold(spec, step, copies)
        samples: dict[str, list[dict]] = {name: [] for name in held}
        probes = probe_names(spec) if "probes" in self.options and OURS in held else {}
        limits: dict[str, list[dict]] = {name: [] for name in probes}
        shared = self._probe(probes, limits)
        turn = counted = 0
        while counted < self.rounds and turn < TRIES * self.rounds:
            log(f"{step} {spec} round {counted + 1}/{self.rounds}", over=True)
            order = list(held)
            shift = turn % max(len(order), 1)
            taken = {name: self.workers[name].ask("sample") for name in order[shift:] + order[:shift]}
            before, shared = shared, self._probe(probes, limits)
            for name, sample in taken.items():
                disturbed = sample["disturbed"] or before or shared
                samples[name].append({**sample, "disturbed": disturbed})
            turn, counted = turn + 1, counted + (not (before or shared))
        for name, all_taken in samples.items():
            held[name] |= statistic(all_taken)
        if OURS in held:
            held[OURS]["limits_doubtful"] = doubtful(limits)
        row = Row(spec, {name: said["us"] for name, said in held.items()}, held, fastest(limits))
        return self.at_peak(row)

    def _probe(self, probes: dict[str, str], limits: dict[str, list[dict]]) -> bool:
        """Sample a layer's limits; whether multiply-adds were far from the highest peak so far."""
        if not probes:
            return False
        said = self.workers[OURS].ask("limits", list(probes.values()))
        for name, sample in zip(probes, said, strict=True):
            limits[name].append(sample)
        if "fma" not in probes:
            return False
        rate = limits["fma"][-1]["rate"]
        peak = self.peaks[probes["fma"]] = max(self.peaks.get(probes["fma"], 0.0), rate)
        return rate < _WHOLE * peak

    def at_peak(self, row: Row) -> Row:
        """``row`` with the highest peak of multiply-adds measured beside any layer so far."""
        peak = self.peaks.get(probe_names(row.spec).get("fma", ""))
        return row if peak is None else replace(row, limits={**row.limits, "fma": peak})

    def busy(self, spec: Spec) -> dict[str, dict]:
        return {name: self.workers[name].ask("probe") for name in self.hold(spec, "threads")}


def log(message: str, over: bool = False) -> None:
    """A line on stderr; with `over`, one that the next replaces, on a terminal only."""
    if not over:
        print(f"\r\x1b[K{message}" if sys.stderr.isatty() else message, file=sys.stderr, flush=True)
    elif sys.stderr.isatty():
        print(f"\r\x1b[K{message[:110]}", end="", file=sys.stderr, flush=True)
