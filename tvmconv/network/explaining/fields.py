"""Receptive fields in a network with branches: what each value sees of one of them, the origin.

A value that several paths lead to sees what it sees by any of them: the span from the first to the last
element that one of them reaches, so its field is at least as large as that of every path, and that of the
longest where all lie around the same middle. Paths join with equal jumps where a network is laid out well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tvmconv.base.errors import SpecError
from tvmconv.network.explaining.links import Links, links
from tvmconv.network.explaining.sight import SAME, Sight, Span, hull
from tvmconv.network.graph import Graph, Node
from tvmconv.specs.operators.base import dims_text


class Followed(NamedTuple):
    """An axis of the origin as a value sees it: the value's axis that follows it, and how."""

    axis: int
    sight: Sight


Seen = Mapping[int, Followed]
"""By axis of the origin; every element of the value sees all of the axes that are missing, or may."""


class Fields:
    """What the values of a network see of ``origin``.

    axes: those of the origin that are followed. seen: of each value that sees anything of it. Raises
    SpecError for an origin that the graph does not have.
    """

    def __init__(self, graph: Graph, origin: str, axes: Sequence[int] | None = None) -> None:
        if origin not in graph.values:
            raise SpecError(f"origin: {origin!r}, expected a value of the network")
        self.graph, self.origin = graph, origin
        self.shape = graph.values[origin].shape
        self.axes = image_axes(self.shape) if axes is None else tuple(axes)
        self.seen: dict[str, Seen] = {origin: {axis: Followed(axis, SAME) for axis in self.axes}}
        self._links: dict[tuple[str, int], Links] = {}
        for node in graph.nodes:
            parts = [self._part(node, number) for number, name in enumerate(node.inputs) if name in self.seen]
            for name in node.outputs if parts and origin not in node.outputs else ():
                self.seen[name] = self._joined(parts, graph.values[name].shape)

    def _part(self, node: Node, number: int) -> Seen:
        """What a node's results see through one of its inputs."""
        before = self.seen[node.inputs[number]]
        found = links(node.op, number, {followed.axis for followed in before.values()})
        self._links[node.output, number] = found
        part = {}
        for axis, (own, sight) in before.items():
            if own in found:
                to, link = found[own]
                through = sight.through(link)
                if through is not None:
                    part[axis] = Followed(to, through)
        return part

    def _joined(self, parts: Sequence[Seen], shape: tuple[int, ...]) -> Seen:
        first, *others = parts
        found = dict(first)
        for part in others:
            for axis in list(found):
                sight = None
                if axis in part and part[axis].axis == found[axis].axis:
                    to, size = found[axis].axis, shape[found[axis].axis]
                    sight = self._join(found[axis].sight, part[axis].sight, size, axis)
                if sight is None:
                    del found[axis]
                else:
                    found[axis] = Followed(to, sight)
        return found

    def _join(self, one: Sight, other: Sight, size: int, axis: int) -> Sight | None:
        joined = one.joined(other, size)
        if joined is None or one.jump == other.jump:
            return joined
        last = self.shape[axis] - 1
        spans = [joined.at(i) for i in range(size)]
        sees_all = all(span is not None and span[0] <= 0 and span[1] >= last for span in spans)
        return None if sees_all else joined  # as beside a global pooling

    def region(self, name: str, element: Sequence[int]) -> tuple[Span, ...] | None:
        """What one element of a value really sees: the first and the last element of each of the origin's
        axes, none of them outside of it. None: nothing. Raises SpecError for an element that is not there."""
        shape = self.graph.values[name].shape
        if len(element) != len(shape) or not all(0 <= i < n for i, n in zip(element, shape, strict=True)):
            raise SpecError(f"element: {tuple(element)}, expected one of {name!r}, {dims_text(shape)}")
        needed: dict[str, tuple[Span, ...]] = {name: tuple((i, i) for i in element)}
        for node in reversed(self.graph.nodes):
            if self.origin in node.outputs:
                continue
            for made in node.outputs:
                if made in needed:
                    self._trace(node, needed[made], needed)
        return needed.get(self.origin)

    def _trace(self, node: Node, box: tuple[Span, ...], needed: dict[str, tuple[Span, ...]]) -> None:
        for number, name in enumerate(node.inputs):
            if (node.output, number) not in self._links:
                continue
            found = self._links[node.output, number]
            spans: list[Span] = []
            for axis, size in enumerate(self.graph.values[name].shape):
                span: Span | None = (0, size - 1)
                if axis in found:
                    to, link = found[axis]
                    span = link.of(*box[to])
                if span is None or span[0] >= size or span[1] < 0:
                    break
                spans.append((max(span[0], 0), min(span[1], size - 1)))
            else:
                before = needed.get(name, spans)
                needed[name] = tuple(hull(pair) for pair in zip(before, spans, strict=True))  # type: ignore[misc]


def image_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """The spatial axes of an image's shape: those after batch and channels, or between them where the last
    dim looks like channels and the second does not; none of an array with fewer than 3 dims."""
    rank = len(shape)
    if rank < 3:
        return ()
    last = rank == 4 and shape[-1] in (1, 3, 4) and shape[1] not in (1, 3, 4)
    return tuple(range(1, rank - 1) if last else range(2, rank))
