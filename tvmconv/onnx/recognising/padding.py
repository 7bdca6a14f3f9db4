"""Pad before a convolution, as its padding: zeros around the image, or the image itself in another mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import shape_in
from tvmconv.onnx.reading.graph import Graph, Value, attributes, is_standard, value_of
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from onnx import NodeProto

_MODES = {"constant": "zeros", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_MOST = 16  # consecutive Pads; no model has a reason for more


class Pad(NamedTuple):
    """Pad nodes that together widen an image: of which value, by how much, in which mode."""

    nodes: tuple[NodeProto, ...]
    x: str
    x_shape: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    mode: str

    def into(self, spec: ConvSpec) -> ConvSpec | None:
        """``spec``, of the widened image, as one of the image itself; None if there is none."""
        if spec.transposed or (self.mode != "zeros" and any(map(any, spec.padding))):
            return None
        shape = shape_in(spec.layout, self.x_shape)
        both = tuple(
            (lo + own_lo, hi + own_hi)
            for (lo, hi), (own_lo, own_hi) in zip(self.pairs, spec.padding, strict=True)
        )
        try:
            return replace(spec, input_shape=shape, padding=both, padding_mode=self.mode)
        except SpecError:  # borders wider than x has elements for
            return None


def pad_before(graph: Graph, value: str, known: Mapping[str, Value]) -> Pad | None:
    """The Pad nodes that make ``value`` of an image, if all they do is widen it, by constant numbers."""
    found = None
    for _ in range(_MOST):
        node = graph.producer(value if found is None else found.x)
        one = _pad(graph, node, known) if node is not None else None
        if one is None or (found is not None and (one.mode, found.mode) != ("zeros", "zeros")):
            break
        if found is not None:
            pairs = tuple((a + c, b + d) for (a, b), (c, d) in zip(one.pairs, found.pairs, strict=True))
            one = one._replace(nodes=(*one.nodes, *found.nodes), pairs=pairs)
        found = one
    return found


def _pad(graph: Graph, node: NodeProto, known: Mapping[str, Value]) -> Pad | None:
    if node.op_type != "Pad" or not is_standard(node):
        return None
    told, inputs = attributes(node), [*node.input, "", "", ""]
    mode = _MODES.get(told.get("mode", "constant"))
    pads = told.get("pads") if graph.opset < 11 else graph.constant(inputs[1])
    filling = graph.constant(inputs[2]) if inputs[2] else np.zeros(())
    axes = graph.constant(inputs[3]) if inputs[3] else None
    if mode is None or pads is None or filling is None or (inputs[3] and axes is None):
        return None
    if mode == "zeros" and (told.get("value", 0) != 0 or np.any(filling != 0)):
        return None
    shape = value_of(graph, known, inputs[0]).shape
    rank, flat = len(shape), [int(n) for n in np.ravel(pads)]
    where = [int(a) % rank for a in np.ravel(axes)] if axes is not None else list(range(rank))
    if len(flat) != 2 * len(where) or len(set(where)) != len(where) or min(flat, default=0) < 0:
        return None  # damaged, or it cuts off elements
    pairs = [(0, 0)] * rank
    for axis, lo, hi in zip(where, flat[: len(where)], flat[len(where) :], strict=True):
        pairs[axis] = lo, hi
    if any(pairs[0]) or any(pairs[1]):  # images or channels, which a convolution has no padding for
        return None
    return Pad((node,), inputs[0], shape, tuple(pairs[2:]), mode)
