"""A process that runs one engine, and the parent's handle on it.

The parent sends one request at a time and waits for the answer, so only one engine ever runs.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from tvmconv.base.clock import TRIES, Clock, Flush, preemptions, timed
from tvmconv.base.processes import Process, ProcessError, answer_lines, settle
from tvmconv.bench.engines.layer_data import Layer, Unsupported
from tvmconv.bench.engines.names import ENGINES
from tvmconv.bench.engines.ways import Engine, Way
from tvmconv.bench.limits import Limits
from tvmconv.bench.ratios import OURS

PICK_SAMPLES = 3


class EngineError(Exception):
    """An engine died, or could not start."""


def error_of(y: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute error over the largest expected value; infinite for a wrong shape or a NaN."""
    if y.shape != expected.shape:
        return float("inf")
    error = float(np.abs(y - expected).max() / max(np.abs(expected).max(), 1e-30))
    return error if error == error else float("inf")


class Turns:
    """The clock of a layer with cold weights: instances in turns, each call's inputs written before it."""

    def __init__(self, ways: Sequence[Way], seconds: float):
        self.calls = 1
        self.ways = cycle([(way.touch, way.call) for way in ways])
        self.calls = max(2, min(len(ways), round(seconds / max(self.time(), 1e-9))))

    def time(self) -> float:
        """Seconds per call, of the next few."""
        spent = 0.0
        for touch, call in islice(self.ways, self.calls):
            touch()
            start = perf_counter()
            call()
            spent += perf_counter() - start
        return spent / self.calls

    def sample(self) -> dict:
        """Seconds per call; a sample in which another process took a core from us is taken again."""
        for _ in range(TRIES):
            before = preemptions()
            result = {"seconds": self.time(), "disturbed": preemptions() > before}
            if not result["disturbed"]:
                break
        return result


class Bench:
    """The worker's side: one engine, the layer that it now holds, and the requests about it.

    ``cold``: flush the caches before each call that is timed. ``probes``: the library of this machine's
    limits, of our engine alone."""

    def __init__(
        self, engine: Engine, threads: int, seconds: float, cold: bool = False, probes: str | None = None
    ):
        self.engine, self.threads, self.seconds = engine, threads, seconds
        self.probes = None if probes is None else Limits(probes, seconds)
        self.flush = Flush() if cold else None
        self.way: Way | None = None
        self.clock: Clock | Turns | None = None

    def layer(self, layer: Layer, copies: int = 0) -> dict:
        """Set the layer up in each of the engine's ways, check each result, keep the fastest. ``copies``: so
        many instances take turns, each with its own weights; ways whose inputs can't be touched don't."""
        self.way, best, errors, failed = None, float("inf"), {}, ""
        if copies and self.threads > 1 and not self.engine.one_pool:
            return {"unsupported": "instances with a pool of threads each get in each other's way"}
        ways = iter(self.engine.ways(layer))
        while True:
            try:
                way = next(ways, None)
                if way is None:
                    break
                if copies and way.touch is None:
                    raise Unsupported(f"{way.name}: its inputs cannot be written anew, to be near")
                way.call()
                error = errors[way.name] = error_of(way.result(), layer.expected)
            except Exception as problem:  # a way that an engine refuses does not affect the others
                known = isinstance(problem, Unsupported)
                text = str(problem) if known else f"{type(problem).__name__}: {problem}"
                failed = failed or " ".join(text.split())[:200]
                continue
            if error > layer.tolerance:
                return {"wrong": way.name, "error": error}
            clock: Clock | Turns = Clock(way.call, self.seconds, self.flush)
            if copies:
                clock = Turns([way, *self.more(layer, way.name, copies - 1)], self.seconds)
            spent = min(clock.time() for _ in range(PICK_SAMPLES))
            if spent < best:
                best, self.way, self.clock = spent, way, clock
        if self.way is None:
            return {"unsupported": failed or "the engine offers no way"}
        return {"way": self.way.name, "error": errors[self.way.name], "failed": failed}

    def more(self, layer: Layer, name: str, count: int) -> list[Way]:
        """The same way again, so often, with the same inputs and weights elsewhere in memory."""
        found = []
        for _ in range(count):
            arrays = {key: array.copy() for key, array in layer.arrays.items()}
            again = replace(layer, arrays=arrays)
            found.append(next(way for way in self.engine.ways(again) if way.name == name))
            found[-1].call()
        return found

    def sample(self) -> dict:
        """One sample of the layer, as `Clock` takes it."""
        return self.clock.sample()

    def limits(self, names: Sequence[str]) -> list[dict]:
        """One sample of each of these probes."""
        return self.probes.sample(names)

    def probe(self) -> dict:
        """How many threads of this process worked while the layer ran, and how many cores they filled."""
        before, start = thread_times(), perf_counter()
        while perf_counter() - start < 0.1:
            timed(self.way.call, self.clock.calls)
        wall, after = perf_counter() - start, thread_times()
        shares = [(after[t] - before.get(t, 0.0)) / wall for t in after]
        return {"threads": sum(share > 0.1 for share in shares), "cores": sum(shares)}


def thread_times() -> dict[str, float]:
    """Seconds on a CPU so far by thread of this process."""
    tasks = Path("/proc/self/task")
    return {t.name: int((t / "schedstat").read_text().split()[0]) / 1e9 for t in tasks.iterdir()}


class Requests:
    """What the worker does with what it is sent: the first request says which engine."""

    def __init__(self) -> None:
        self.bench: Bench | None = None

    def answer(self, request: list[Any]) -> Any:
        name, *arguments = request
        if name == "start":
            return self.start(*arguments)
        if name == "layer":
            path, copies = arguments
            with open(path, "rb") as file:
                arguments = [pickle.load(file), copies]  # the parent has just written it
        answer = getattr(self.bench, name)(*arguments)
        if name == "layer":
            gc.collect()
        return answer

    def start(self, engine: str, threads: int, cpus: Sequence[int], options: dict) -> dict[str, str]:
        """Start the engine; its version, or the error that prevents it."""
        os.sched_setaffinity(0, cpus)  # before any library counts cores or starts threads
        try:
            made = ENGINES[engine](threads, {**options, "engine": engine})
            self.bench = Bench(made, threads, options["seconds"], options.get("cold", False),
                               options.get("probes") if engine == OURS else None)  # fmt: skip
        except Exception as problem:
            return {"failed": " ".join(f"{engine}: {problem}".split())}
        gc.disable()
        return {"version": made.version}


def serve() -> None:
    """The worker process: answer requests until the input ends."""
    answer_lines(Requests().answer)
    os._exit(0)  # some engines' threads do not survive an orderly exit


class Worker:
    """The parent's handle: `worker.ask("sample")`. Raises EngineError if the engine dies."""

    def __init__(self, engine: str, threads: int, cpus: Sequence[int], options: dict):
        self.engine = engine
        self.log = tempfile.NamedTemporaryFile(prefix=f"bench-{engine}-", suffix=".log")  # noqa: SIM115
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVMCONV_NUM_THREADS")
        self.process = Process(__name__, dict.fromkeys(names, str(threads)), stderr=self.log, torch=True)
        said = self.ask("start", engine, threads, list(cpus), options)
        if "failed" in said:
            self.close()
            raise EngineError(said["failed"])
        self.version = said["version"]

    def hold(self, layer: Layer, copies: int) -> dict:
        """What `Bench.layer` says of it."""
        with tempfile.NamedTemporaryFile(prefix="bench-layer-") as file:
            pickle.dump(layer, file, pickle.HIGHEST_PROTOCOL)
            file.flush()
            return self.ask("layer", file.name, copies)

    def ask(self, *request: Any) -> Any:
        """The answer to a request of the other side: a method of `Bench`, and its arguments."""
        process = self.process.start()
        try:
            answer = self.process.ask(request)
        except ProcessError as problem:
            tail = " / ".join(Path(self.log.name).read_text(errors="replace").splitlines()[-3:])
            raise EngineError(f"{self.engine}: {problem}; last words: {tail}") from None
        if not settle(process.pid):  # threads that spin would take time from the next engine
            print(f"warning: threads of {self.engine} keep running between samples", file=sys.stderr)
        return answer

    def close(self) -> None:
        self.process.stop()
        self.log.close()
