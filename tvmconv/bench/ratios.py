"""The arithmetic of comparisons: timed layers, their ratios and means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvmconv.specs.kinds import Spec

OURS = "ours"
XNNPACK = "litert"  # the engine that stands for XNNPACK
KINDS = ("depthwise", "pointwise", "grouped", "dense")


def kind_of(spec: Spec) -> str:
    """The kind of a layer, for comparison: "dilated depthwise", "transposed dense", "dense uint8"."""
    words = ["transposed"] * spec.transposed
    words += ["dilated"] * (set(spec.dilation) != {1} and set(spec.kernel) != {1})
    words.append(spec.kind)
    types = spec.dtype if spec.out_dtype == spec.dtype else f"{spec.dtype}/{spec.out_dtype}"
    words += [types] * (spec.dtype != "float32")
    return " ".join(words)


@dataclass(frozen=True)
class Row:
    """One timed layer: microseconds a call by engine; an engine that cannot run the layer is absent.
    ``limits``: operations a second, "fma", and bytes a second, "copy", as measured beside it."""

    spec: Spec
    us: Mapping[str, float]
    detail: Mapping[str, dict] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def gflops(self) -> float | None:
        """Our GFLOP/s; None if we were not timed."""
        return self.spec.flops / self.us[OURS] / 1e3 if OURS in self.us else None

    @property
    def doubtful(self) -> bool:
        """Whether other load disturbed nearly all samples of ours or of the limits."""
        ours = self.detail.get(OURS, {})
        return ours.get("doubtful", False) or ours.get("limits_doubtful", False)

    def best(self, without: Iterable[str] = ()) -> str | None:
        """The fastest peer's name; None if no peer ran the layer."""
        return min(self.us.keys() - {OURS, *without}, key=lambda name: (self.us[name], name), default=None)

    def ratio(self, peer: str | None) -> float | None:
        """A peer's time over ours: above 1 if we are faster. None if either was not timed."""
        return self.us[peer] / self.us[OURS] if peer in self.us and OURS in self.us else None


def geometric_mean(values: Iterable[float]) -> float | None:
    """None of no values."""
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else None


def summarise(rows: Sequence[Row], peers: Sequence[str]) -> dict[str, dict[str, float | int | None]]:
    """Geometric means of peer time / ours, for all layers and for each kind that occurs.

    Keys of an inner dict: `layers`, `best` (best peer of each layer), `best without XNNPACK`, `lowest` (the
    smallest ratio to the best peer) and each peer, over the layers that it ran."""
    kinds = dict.fromkeys(kind_of(row.spec) for row in rows)
    groups = {"all": list(rows)}
    for kind in [*(kind for kind in KINDS if kind in kinds), *(kind for kind in kinds if kind not in KINDS)]:
        groups[kind] = [row for row in rows if kind_of(row.spec) == kind]

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
