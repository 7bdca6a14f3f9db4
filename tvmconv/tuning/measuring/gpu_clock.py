"""Time on a GPU, by its own events."""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable

from tvmconv.runtime.gpu.driver import driver

Call = Callable[[int], object]
"""Launches work on the default stream; the number counts the calls of a round."""


class Clock:
    """Times work on the default stream of the current context."""

    def __init__(self, least: float = 0.005) -> None:
        """``least``: seconds that a round takes at least."""
        self.least = least
        self._cuda, self._lib = driver(), ctypes.CDLL("libcuda.so.1")
        self._events = [ctypes.c_void_p(), ctypes.c_void_p()]
        for event in self._events:
            self._cuda.check(self._lib.cuEventCreate(ctypes.byref(event), 0), "an event")

    def calls(self, call: Call) -> int:
        """How many calls make a round."""
        count = 1
        while (took := self.round(call, count)) < self.least and count < 1 << 14:
            count *= 2 if took > self.least / 10 else 8
        return count

    def seconds(self, call: Call, rounds: int = 7) -> float:
        """The median time of a call."""
        count = self.calls(call)
        return statistics.median(self.round(call, count) for _ in range(rounds)) / count

    def round(self, call: Call, count: int) -> float:
        """Seconds of so many calls together. Raises Error for what went wrong on the GPU."""
        start, stop = self._events
        self._lib.cuEventRecord(start, None)
        for i in range(count):
            call(i)
        self._lib.cuEventRecord(stop, None)
        self._cuda.check(self._lib.cuEventSynchronize(stop), "the GPU")
        milliseconds = ctypes.c_float()
        self._lib.cuEventElapsedTime(ctypes.byref(milliseconds), start, stop)
        return milliseconds.value / 1e3
