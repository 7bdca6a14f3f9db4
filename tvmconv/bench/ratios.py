"""The arithmetic of comparisons: timed layers, their ratios and means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvmconv.spec import ConvSpec

OURS = "ours"
XNNPACK = "litert"  # the engine that stands for XNNPACK


@dataclass(frozen=True)
class Row:
    """One timed layer: microseconds a call by engine; an engine that cannot run the layer is absent."""

    spec: ConvSpec
    us: Mapping[str, float]
    detail: Mapping[str, dict] = field(default_factory=dict)

    @property
    def gflops(self) -> float | None:
        """Our GFLOP/s; None if we were not timed."""
        return self.spec.flops / self.us[OURS] / 1e3 if OURS in self.us else None

    def best(self, without: Iterable[str] = ()) -> str | None:
        """The fastest peer's name; None if no peer ran the layer."""
        return min(self.us.keys() - {OURS, *without}, key=lambda name: (self.us[name], name), default=None)

    def ratio(self, peer: str | None) -> float | None:
        """A peer's time over ours: above 1 where we are faster. None if either was not timed."""
        return self.us[peer] / self.us[OURS] if peer in self.us and OURS in self.us else None


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of no values."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def summarise(rows: Sequence[Row], peers: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    """Geometric means of peer time / ours, for all layers and for each kind that occurs.

    Keys of an inner dict: `layers`, `best` (best peer of each layer), `best without XNNPACK`, `lowest` (the
    smallest ratio to the best peer) and each peer, over the layers that it ran."""
    groups = {"all": list(rows)}
    for kind in ("depthwise", "pointwise", "grouped", "dense"):
        if members := [row for row in rows if row.spec.kind == kind]:
            groups[kind] = members

    def mean(members: Sequence[Row], choose: Callable[[Row], str | None]) -> float | None:
        return geometric_mean(r for row in members if (r := row.ratio(choose(row))) is not None)

    table = {}
    for name, members in groups.items():
        ratios = [r for row in members if (r := row.ratio(row.best())) is not None]
        table[name] = {
            "layers": len(members),
            "best": geometric_mean(ratios),
            "best without XNNPACK": mean(members, lambda row: row.best(without=(XNNPACK,))),
            "lowest": min(ratios, default=None),
            **{peer: mean(members, lambda row, peer=peer: peer) for peer in peers},
        }
    return table
