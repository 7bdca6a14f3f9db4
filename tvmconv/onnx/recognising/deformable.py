"""ONNX's DeformConv: as a spec, as a layer of a model, and run as a single node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import window
from tvmconv.onnx.reading.graph import Graph, Value, node_name, told_of, value_of
from tvmconv.onnx.recognising.layers import Layer
from tvmconv.specs.deformable import DeformSpec

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]

_INPUTS = ("x", "w", "offset", "bias", "mask")


def deform_spec(
    node: NodeProto, x_shape: Sequence[int], w_shape: Sequence[int], *, bias: bool, mask: bool,
    dtype: str = "float32",
) -> DeformSpec:  # fmt: skip
    """The spec of a DeformConv node, of ONNX's shapes (N, C, H, W) and (O, C/group, kh, kw). Raises
    SpecError, which names the node."""
    with told_of(node):
        if len(x_shape) != 4:
            raise SpecError(f"x: shape {tuple(x_shape)}, expected 4 dims")
        at = window(node, x_shape, w_shape)
        return DeformSpec(
            at.x, at.w[0], at.kernel, stride=at.strides, dilation=at.dilations, padding=at.padding(),
            groups=at.group, offset_groups=at.attributes.get("offset_group", 1), mask=mask, bias=bias,
            dtype=dtype,
        )  # fmt: skip


def deform_layer(graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str) -> Layer:
    """A DeformConv node as a layer, channels-first whatever ``layout``; raises SpecError for one that cannot
    be."""
    given = {name: value for name, value in zip(_INPUTS, node.input, strict=False) if value}
    x, w = (value_of(graph, known, given[name]) for name in ("x", "w"))
    spec = deform_spec(node, x.shape, w.shape, bias="bias" in given, mask="mask" in given, dtype=x.dtype)
    inputs: dict[str, str] = {name: given[name] for name in ("x", "offset", "mask") if name in given}
    weights: dict[str, np.ndarray] = {}
    computed: dict[str, str] = {}
    for argument in ("w", "bias"):
        array = graph.constant(given[argument]) if argument in given else None
        if array is not None:
            weights[argument] = np.ascontiguousarray(array)
        elif argument in given:
            computed[argument] = given[argument]
    name = node_name(node)
    return Layer(name, spec, (name,), inputs, node.output[0], weights, computed)


def run_deform(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    """The output of a DeformConv node: x, w, offset, and maybe bias and mask. Raises SpecError."""
    from tvmconv.frontends.api import function

    x, w, offset, bias, mask = [*arrays, *[None] * (5 - len(arrays))]
    for name, array in (("x", x), ("w", w), ("offset", offset)):
        if array is None:
            what = f"inputs: no {name}, expected x, w, offset and maybe bias, mask"
            raise SpecError(f"node {node_name(node)}: {what}")
    spec = deform_spec(
        node, x.shape, w.shape, bias=bias is not None, mask=mask is not None, dtype=x.dtype.name
    )  # fmt: skip
    with told_of(node):
        inputs = [offset] if mask is None else [offset, mask]
        return [function(spec, target)(x, w, bias, *inputs)]
