"""The measured roofline of this machine: the least possible time for a given amount of work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tvmconv.base.clock import Clock, Flush, last_cache
from tvmconv.base.dtypes import ACCUMULATORS
from tvmconv.base.errors import TargetError
from tvmconv.runtime import arrays, set_num_threads
from tvmconv.schedules.machines import Machine

SAMPLES = 7
SECONDS = 0.003  # of a sample
SMALLEST = 1 << 14  # bytes of the smallest working set that is copied


@dataclass(frozen=True)
class Roofline:
    """``peak``: operations a second by type of sums. ``copies``: (bytes, seconds), growing, of calls that
    read one half of those bytes and write the other. ``threads`` and ``cold``: how they were measured."""

    peak: Mapping[str, float]
    copies: tuple[tuple[int, float], ...]
    threads: int
    cold: bool = False

    def bandwidth(self, size: float) -> float:
        """Bytes a second of a copy of ``size`` bytes, both arrays together; between what was measured."""
        (first, at_first), *_, (last, at_last) = self.copies
        if size <= first:
            return first / at_first
        if size >= last:
            return last / at_last
        for (small, fast), (large, slow) in zip(self.copies, self.copies[1:], strict=False):
            if size <= large:
                share = math.log(size / small) / math.log(large / small)
                return (small / fast) ** (1 - share) * (large / slow) ** share
        raise AssertionError

    def best_with(self, other: Roofline) -> Roofline:
        """Of two measurements of one machine, for the same types and sizes, the better one in each."""
        peak = {dtype: max(rate, other.peak[dtype]) for dtype, rate in self.peak.items()}
        pairs = zip(self.copies, other.copies, strict=True)
        copies = tuple((size, min(seconds, before)) for (size, seconds), (_, before) in pairs)
        return replace(self, peak=peak, copies=copies)

    def seconds(self, flops: float, size: float, dtype: str) -> tuple[float, str]:
        """(the least time of a call, what sets it: "compute" or "memory")."""
        compute = flops / self.peak[ACCUMULATORS[dtype]]
        memory = size / self.bandwidth(size)
        return (compute, "compute") if compute >= memory else (memory, "memory")


def sizes() -> list[int]:
    """Working sets to copy, in bytes: powers of two to four times the largest cache, within reason."""
    end = min(4 * last_cache(), 1 << 28)
    return [1 << k for k in range(SMALLEST.bit_length() - 1, end.bit_length())]


def measure(machine: Machine, dtypes: Iterable[str], threads: int, flush: Flush | None = None) -> Roofline:
    """Measure with kernels for ``machine`` on ``threads`` threads; ``dtypes``: types of the elements.

    Takes the best of several samples: other load can only make a machine look slower. Raises TargetError
    where the kernels cannot be compiled.
    """
    from tvmconv.bench import probes

    try:
        held = sorted({ACCUMULATORS[dtype] for dtype in dtypes})
        module = probes.library(machine, held, sizes()).load()
    except ImportError as error:
        raise TargetError(f"roofline: no module {error.name}; pip install 'tvmconv[compile]'") from None
    set_num_threads(threads)
    peak, copies = {}, []
    for entry in module.manifest["functions"]:
        name, _, of = entry["name"].partition("_")
        seconds = _best(module[entry["name"]], flush if name == "copy" else None)
        if name == "fma":
            peak[of] = entry["flops"] / seconds
        else:
            copies.append((int(of), seconds))
    return Roofline(peak, tuple(copies), threads, flush is not None)


def clock_of(function: Any, seconds: float, flush: Flush | None = None) -> Clock:
    """A clock of a probe on its own arrays."""
    x, y = (arrays.empty(a.shape, a.numpy_dtype, a.nbytes) for a in function.arguments)
    x[...] = 1
    y[...] = 0
    return Clock(function.bind().on(x, out=y), seconds, flush)


def _best(function: Any, flush: Flush | None) -> float:
    clock = clock_of(function, SECONDS, flush)
    return min(clock.sample()["seconds"] for _ in range(SAMPLES))
