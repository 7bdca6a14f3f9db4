"""Timing the functions of one of our libraries in this process: any kind of layer, on random data."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvmconv.base.clock import Clock, Flush, statistic
from tvmconv.base.dtypes import FLOATS, rounded
from tvmconv.bench.ratios import geometric_mean
from tvmconv.bench.roofline import Roofline
from tvmconv.frontends.verify import operands
from tvmconv.runtime import arrays

_TOLERATED = 5  # percent above the roof


def is_above(percent: float, facts: Mapping[str, Any]) -> bool:
    """Whether a kernel that reaches so much of the roof is faster than that, by more than measurements vary,
    and not by fewer multiplications than the roof counts: the roof's measurement was disturbed. ``facts``:
    its schedule's, or a step's."""
    return bool(percent > 100 + _TOLERATED) and not facts.get("combines", False)


@dataclass
class Line:
    """One function as timed: ``entry`` of the manifest, what ``clock.statistic`` says of it, and the others'
    medians in µs by the name that they were asked for. ``count``: the layers of a model that it stands for; 0
    for what is not of a model."""

    entry: Mapping[str, Any]
    timed: Mapping[str, Any]
    roofline: Roofline
    peers: dict[str, float] = field(default_factory=dict)
    count: int = 0

    @property
    def us(self) -> float:
        """The median of a call, in µs."""
        return self.timed["us"]

    @property
    def gflops(self) -> float:
        """GFLOP/s."""
        return self.entry["flops"] / self.us / 1e3

    @property
    def gbs(self) -> float:
        """GB/s, of every array once."""
        return self.entry["bytes"] / self.us / 1e3

    @property
    def roof(self) -> tuple[float, str]:
        """(µs of the roofline, "compute" or "memory")."""
        dtype = self.entry["arguments"][0]["dtype"]
        seconds, what = self.roofline.seconds(self.entry["flops"], self.entry["bytes"], dtype)
        return seconds * 1e6, what

    @property
    def percent(self) -> float:
        """Percentage of the roofline: 100 if the call takes no longer than necessary."""
        return 100 * self.roof[0] / self.us

    @property
    def exceeds(self) -> bool:
        """See ``is_above``."""
        return is_above(self.percent, self.entry.get("schedule", {}))

    @property
    def all_us(self) -> float:
        """µs of all the layers that it stands for."""
        return self.us * max(self.count, 1)

    def facts(self) -> dict[str, Any]:
        """For JSON and CSV; `ratios` are the others' times over ours."""
        roof, what = self.roof
        return {
            "name": self.entry["name"], "descriptor": self.entry["descriptor"], **self.timed,
            "flops": self.entry["flops"], "bytes": self.entry["bytes"], "gflops": self.gflops,
            "gbs": self.gbs, "roof_us": roof, "bound": what, "percent": self.percent,
            "exceeds": self.exceeds, "count": self.count, "all_us": self.all_us,
            "schedule": self.entry.get("schedule", {}), "peers_us": dict(self.peers),
            "ratios": {name: us / self.us for name, us in self.peers.items()},
        }  # fmt: skip


def total(lines: list[Line]) -> dict[str, Any] | None:
    """All of a model's layers together, each as often as the model has it; None without a model. ``ratios``:
    the time of others over ours, in the layers that they ran."""
    lines = [line for line in lines if line.count]
    if not lines:
        return None

    def every(value: Callable[[Line], float]) -> float:
        return sum(line.count * value(line) for line in lines)

    us, roof = every(lambda line: line.us), every(lambda line: line.roof[0])
    names = dict.fromkeys(name for line in lines for name in line.peers)
    ratios = {}
    for name in names:
        ran = [line for line in lines if name in line.peers]
        ratios[name] = sum(line.count * line.peers[name] for line in ran) / sum(line.all_us for line in ran)
    return {
        "count": int(every(lambda line: 1)), "us": us, "roof_us": roof, "percent": 100 * roof / us,
        "gflops": every(lambda line: line.entry["flops"]) / us / 1e3,
        "gbs": every(lambda line: line.entry["bytes"]) / us / 1e3, "ratios": ratios,
    }  # fmt: skip


def means(lines: list[Line], peers: list[str]) -> dict[str, float | None]:
    """Geometric means over the lines: µs, GFLOP/s, GB/s, percent, and each peer's time over ours."""
    found = {key: geometric_mean(getattr(line, key) for line in lines if getattr(line, key) > 0)
             for key in ("us", "gflops", "gbs", "percent")}  # fmt: skip
    for name in peers:
        found[name] = geometric_mean(line.peers[name] / line.us for line in lines if name in line.peers)
    if peers:
        found["best"] = geometric_mean(min(line.peers.values()) / line.us for line in lines if line.peers)
    return found


def clock_of(function: Any, entry: Mapping[str, Any], seconds: float, flush: Flush | None = None) -> Clock:
    """A clock of the bound function, ready to take samples of about ``seconds``."""
    *arguments, output = entry["arguments"]
    rng = np.random.default_rng(zlib.crc32(entry["descriptor"].encode()))
    given = {a["name"]: _random(rng, a) for a in arguments}
    weights, inputs = operands(arguments, given)
    y = arrays.aligned(rounded(np.zeros(output["shape"]), output["dtype"]))
    return Clock(function.bind(*weights).on(*inputs, out=y), seconds, flush)


def time(function: Any, entry: Mapping[str, Any], rounds: int, seconds: float, flush: Flush | None) -> dict:
    """``clock.statistic`` of that many samples."""
    clock = clock_of(function, entry, seconds, flush)
    return statistic([clock.sample() for _ in range(rounds)])


def _random(rng: np.random.Generator, argument: Mapping[str, Any]) -> np.ndarray:
    shape, dtype = tuple(argument["shape"]), argument["dtype"]
    if dtype in FLOATS:  # scales have to be positive
        values = rng.random(shape) + 0.5 if argument["name"].endswith("scale") else rng.standard_normal(shape)
    else:
        values = rng.integers(0 if dtype.startswith("u") else -8, 9, shape)
    return arrays.aligned(rounded(values, dtype))
