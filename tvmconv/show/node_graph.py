"""A model's graph as a picture: a box a node, with what it makes and what that costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.messages import readable
from tvmconv.network.explaining.facts import Explained, NodeFacts, explain
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.model import Shapes, Source
from tvmconv.show.layered import layout
from tvmconv.show.picture import Picture
from tvmconv.specs.operators.base import dims_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _HEIGHT = 170, 88  # pixels of a node's room
_BOX = (150, 60)
_ROOM = 30
_COLOURS = (
    ("Conv", "#cfe2f3"), ("Pool", "#d9ead3"), ("Gemm", "#fce5cd"), ("MatMul", "#fce5cd"),
    ("LSTM", "#fce5cd"), ("GRU", "#fce5cd"), ("input", "#fff2cc"),
)  # fmt: skip
_OTHER = "#eeeeee"


def graph(
    source: Source, *, shapes: Shapes | None = None, fixed: Fixed | None = None,
    start: str | None = None, end: str | None = None,
) -> Picture:  # fmt: skip
    """A model's nodes and how they follow each other, with shapes, parameters, multiply-adds and receptive
    fields; arguments and errors as for `tvmconv.network.explaining.facts.explain`. A large model's is tall:
    best saved as .svg."""
    return drawn(explain(source, shapes, fixed=fixed, start=start, end=end))


def drawn(told: Explained) -> Picture:
    """The picture of an explained model."""
    made = {name: node.output for node in told.graph.nodes for name in node.outputs}
    facts = {node.value: node for node in told.nodes}
    reads = {value: [made.get(name, name) for name in node.reads] for value, node in facts.items()}
    outside = dict.fromkeys(name for names in reads.values() for name in names if name not in facts)
    places = {name: number for number, name in enumerate([*outside, *facts])}
    laid = layout(len(places), [(places[name], places[value]) for value in facts for name in reads[value]])
    across, down = laid.size
    text = f"nodes: {len(facts)}, parameters: {told.parameters:,}, multiply-adds: {told.macs:,}"
    width, height = across * _WIDTH, down * _HEIGHT
    picture = Picture(max(width, 420), height + _ROOM, text, title=text)
    axes = picture.axes((max(width, 420) - width) / 2, _ROOM, width, height)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    for points in laid.edges.values():
        xs, ys = zip(*(((x + 0.5) * _WIDTH, (layer + 0.5) * _HEIGHT) for x, layer in points), strict=True)
        axes.plot(xs, ys, color="#888888", linewidth=1, zorder=1)
    for name, number in places.items():
        x, layer = laid.nodes[number]
        shape = dims_text(told.graph.values[name].shape)
        lines = [name, shape] if name in outside else _lines(facts[name], shape)
        kind = "input" if name in outside else facts[name].kind
        _box(axes, (x + 0.5) * _WIDTH, (layer + 0.5) * _HEIGHT, lines, kind)
    return picture


def _lines(facts: NodeFacts, shape: str) -> list[str]:
    costs = [f"{readable(number)} {what}" for number, what in
             ((facts.parameters, "par"), (facts.macs, "MAC")) if number]  # fmt: skip
    fields = dict.fromkeys("all" if one is None else str(one.size) for one in facts.field.values())
    seen = [f"field {'x'.join(fields)}"] if fields else []
    return [facts.kind, shape, *([", ".join(costs)] if costs else []), *seen]


def _box(axes: Axes, x: float, y: float, lines: list[str], kind: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    colour = next((colour for word, colour in _COLOURS if word in kind), _OTHER)
    wide, high = _BOX
    axes.add_patch(FancyBboxPatch(
        (x - wide / 2, y - high / 2), wide, high, boxstyle="round,rounding_size=6", facecolor=colour,
        edgecolor="#555555", linewidth=0.8, zorder=2,
    ))  # fmt: skip
    step = 14
    for number, line in enumerate(lines):
        short = line if len(line) <= 28 else f"{line[:13]}…{line[-14:]}"
        axes.text(x, y + (number - (len(lines) - 1) / 2) * step, short, ha="center", va="center",
                  fontsize=6.5, parse_math=False, zorder=3)  # fmt: skip
