"""Timing a call: how many of them make a sample, whether it was disturbed, and caches flushed before it."""

from __future__ import annotations

import os
import resource
from array import array
from collections.abc import Callable, Sequence
from itertools import repeat
from pathlib import Path
from time import perf_counter

import numpy as np

TRIES = 3
COLD_CALLS = 3  # a sample; each is flushed for
FEWEST_CLEAN = 3
_EACH_SECONDS = 0.3


def timed(call: Callable[[], object], times: int, clock: Callable[[], float] = perf_counter) -> float:
    """Seconds that `times` calls take, by `clock`."""
    start = clock()
    for _ in repeat(None, times):
        call()
    return clock() - start


def each_timed(call: Callable[[], object], repeat: int | None = None) -> Sequence[float]:
    """Seconds of each of `repeat` calls (None: as many as fit in 0.3 s, 3 to 10000) after a warm-up."""
    call()
    once = timed(call, 1)
    if repeat is None:
        repeat = int(min(10_000, max(3, _EACH_SECONDS / max(once, 1e-9))))
    times = array("d")
    for _ in range(repeat):
        times.append(timed(call, 1))
    return times


def calls_for(call: Callable[[], object], seconds: float) -> int:
    """How many calls last about `seconds`; warms up on the way."""
    times = 1
    while (spent := timed(call, times)) < seconds / 2:
        times = max(times * 2, min(int(times * seconds / spent), times * 10))
    return max(1, round(times * seconds / spent))


def preemptions() -> int:
    """How often a thread of this process has lost its core to another process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def last_cache() -> int:
    """Bytes of this machine's largest cache; 32 MiB where the system does not say."""
    return max(_caches(), default=32 << 20)


def near_cache() -> int:
    """Bytes of the largest cache of one core but the last; 1 MiB where the system does not say."""
    return max(sorted(_caches())[:-1], default=1 << 20)


def _caches() -> list[int]:
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0))
    return sizes


class Flush:
    """After a call no core's caches hold older data: twice the largest cache is copied on each core."""

    def __init__(self) -> None:
        size = min(last_cache(), 512 << 20)
        self.source, self.sink = np.ones(size, np.uint8), np.zeros(size, np.uint8)

    def __call__(self) -> None:
        cores = os.sched_getaffinity(0)
        try:
            for core in cores:
                os.sched_setaffinity(0, {core})
                np.copyto(self.sink, self.source)
        finally:
            os.sched_setaffinity(0, cores)


class Clock:
    """Samples of one call, of about `seconds` each; cold calls if a `flush` precedes each."""

    def __init__(self, call: Callable[[], object], seconds: float, flush: Flush | None = None):
        self.call, self.seconds, self.flush = call, seconds, flush
        self.calls = calls_for(call, seconds)

    def time(self) -> float:
        """Seconds per call, from one sample."""
        if self.flush is None:
            return timed(self.call, self.calls) / self.calls
        spent = 0.0
        for _ in range(COLD_CALLS):
            self.flush()
            spent += timed(self.call, 1)
        return spent / COLD_CALLS

    def sample(self) -> dict:
        """Seconds per call, with caches and threads warmed up first, since others have run meanwhile.

        A sample in which another process took a core from us is taken again; `disturbed` if all were."""
        for _ in range(TRIES):
            if self.flush is None:
                timed(self.call, max(1, self.calls // 3))
            before = preemptions()
            seconds = self.time()
            result = {"seconds": seconds, "disturbed": preemptions() > before}
            if self.flush is None and seconds * self.calls < self.seconds / 2:
                self.calls = calls_for(self.call, self.seconds)  # it was found on a busy machine
            elif not result["disturbed"]:
                break
        return result


def statistic(samples: Sequence[dict]) -> dict:
    """Median, minimum and interquartile range in µs of the undisturbed samples, or of all if they are few."""
    clean = [s["seconds"] for s in samples if not s["disturbed"]]
    doubtful = len(clean) < min(FEWEST_CLEAN, len(samples))
    us = np.array([s["seconds"] for s in samples] if doubtful else clean) * 1e6
    low, middle, high = np.quantile(us, (0.25, 0.5, 0.75))
    return {
        "us": float(middle), "min_us": float(us.min()), "iqr_us": float(high - low),
        "samples": len(samples), "clean_samples": len(clean), "doubtful": doubtful,
    }  # fmt: skip
