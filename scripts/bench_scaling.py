"""How the cost of a layer grows: layers whose batch or channels double, and the fit of a straight line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tvmconv.bench.ratios import OURS
from tvmconv.specs.conv import ConvSpec


@dataclass(frozen=True)
class Curve:
    """Layers of one kind in which only `what` grows, through `values`."""

    title: str
    what: str
    values: tuple[int, ...]
    specs: tuple[ConvSpec, ...]


def curves() -> Iterator[Curve]:
    """A depthwise, a pointwise, a grouped and a dense 3x3 layer over batch; and over channels: all of a
    depthwise one, the groups of a grouped one, the results of the others."""
    batches, channels = (1, 2, 4, 8, 16), (32, 64, 128, 256, 512)

    def layer(batch: int, channels: int, out: int, kernel: int, groups: int) -> ConvSpec:
        return ConvSpec((batch, 28, 28, channels), out, kernel, padding="SAME", groups=groups, layout="NHWC")

    for title, wide, make in [
        ("depthwise 3x3", "channels", lambda n, c: layer(n, c, c, 3, c)),
        ("grouped 3x3, 4 channels a group", "channels", lambda n, c: layer(n, c, c, 3, c // 4)),
        ("pointwise, 64 channels in", "output channels", lambda n, c: layer(n, 64, c, 1, 1)),
        ("dense 3x3, 64 channels in", "output channels", lambda n, c: layer(n, 64, c, 3, 1)),
    ]:
        yield Curve(title, "batch", batches, tuple(make(n, 64) for n in batches))
        yield Curve(title, wide, channels, tuple(make(1, c) for c in channels))


def exponent(values: Sequence[float], cost: Sequence[float]) -> float:
    """The power with which cost grows: 1 for a line through the origin, less where a call costs something."""
    return float(np.polyfit(np.log(values), np.log(cost), 1)[0])


def show_curves(layers: Sequence[dict]) -> None:
    """Print each curve of a table's ``layers``: our µs, the least of the rounds, and µs for each unit over
    that of the largest."""
    us = {row["descriptor"]: row["engines"][OURS]["min_us"] for row in layers if OURS in row["engines"]}
    for curve in curves():
        cost = [us[str(spec)] for spec in curve.specs if str(spec) in us]
        if len(cost) < len(curve.specs):
            continue
        print(f"\n{curve.title}: {curve.what}")
        each = [c / v for c, v in zip(cost, curve.values, strict=True)]
        for value, total, one in zip(curve.values, cost, each, strict=True):
            bar = "#" * round(50 * total / cost[-1])
            print(f"{value:6} {total:10.1f} µs {one / each[-1]:6.2f} a unit  {bar}")
        print(f"grows with the power {exponent(curve.values, cost):.2f}")
