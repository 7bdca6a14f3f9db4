"""The pure parts of bench_peers.py: lists of layers, and the arithmetic of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from tvmconv.spec import ConvSpec

OURS = "ours"
XNNPACK = "litert"  # the engine that stands for XNNPACK
EPILOGUES = {"none": (False, False), "bias": (True, False), "full": (True, True)}


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


def network(name: str, layout: str = "NHWC", epilogue: str = "none") -> list[ConvSpec]:
    """The distinct convolutions of a network at 224×224, batch 1, SAME padding, in order of appearance.

    `epilogue`: "none", "bias", or "full" for bias and the network's own relu6 (batch norm folded)."""
    bias, activate = EPILOGUES[epilogue]
    specs = {}
    for image, channels, out, kernel, stride, linear in NETWORKS[name]():
        shape = (1, image, image, channels) if layout == "NHWC" else (1, channels, image, image)
        groups, out = (channels, channels) if out is None else (1, out)
        activation = "relu6" if activate and not linear else None
        spec = ConvSpec(
            shape, out, kernel, stride=stride, padding="SAME", groups=groups, layout=layout, bias=bias,
            activation=activation,
        )  # fmt: skip
        specs[spec] = None
    return list(specs)


Rows = Iterable[tuple[int, int, "int | None", int, int, bool]]
"""(image, channels, output channels or None for depthwise, kernel, stride, without activation)."""


def mobilenet_v1() -> Rows:
    """Howard et al., arXiv:1704.04861, table 1."""
    yield 224, 3, 32, 3, 2, False
    image, channels = 112, 32
    for out, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2),
                        (1024, 1)]:  # fmt: skip
        yield image, channels, None, 3, stride, False
        image //= stride
        yield image, channels, out, 1, 1, False
        channels = out


def mobilenet_v2() -> Rows:
    """Sandler et al., arXiv:1801.04381, table 2."""
    yield 224, 3, 32, 3, 2, False
    image, channels = 112, 32
    for expansion, out, repeats, first_stride in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]:  # fmt: skip
        for stride in [first_stride] + [1] * (repeats - 1):
            inner = channels * expansion
            if expansion > 1:
                yield image, channels, inner, 1, 1, False
            yield image, inner, None, 3, stride, False
            image //= stride
            yield image, inner, out, 1, 1, True
            channels = out
    yield image, channels, 1280, 1, 1, False


NETWORKS: dict[str, Callable[[], Rows]] = {"mobilenet_v1": mobilenet_v1, "mobilenet_v2": mobilenet_v2}
