"""Conv and ConvTranspose between DequantizeLinear and QuantizeLinear, which is how quantised models are
mostly written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.base.dtypes import BYTES
from tvmconv.onnx.reading.graph import Graph, Value, attributes, node_name, value_of
from tvmconv.onnx.recognising.activations import match
from tvmconv.onnx.recognising.folding import Sum, residual_after
from tvmconv.onnx.recognising.integer_layers import integer_spec, weights_of
from tvmconv.onnx.recognising.layers import Layer
from tvmconv.specs.activations import clamp_of

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True, eq=False)
class _Steps:
    """A tensor of integers that stand for scale * (integer - zero_point).

    value: its name. nodes: between it and the convolution. array: the integers, None if not constant.
    scale, zero_point: 1-D, one element, or one for each index of a dim. activation: before it.
    """

    value: str
    nodes: tuple[NodeProto, ...]
    array: np.ndarray | None
    scale: np.ndarray
    zero_point: np.ndarray
    activation: str | None = None


def dequantised_layer(
    graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str, taken: set[int]
) -> Layer | None:
    """A Conv or ConvTranspose on dequantised 8-bit values whose result is quantised to 8 bits, as the integer
    convolution that it is; None for any other node.

    Its weights have to be dequantised constants, and its bias a dequantised int32 constant in steps of
    x_scale * w_scale, as QLinearConv has it. Between it and QuantizeLinear there may be the addition of a
    dequantised value of the result's shape and type, the residual, and then an activation; one that the
    limits of the quantised type imply is left out. ``taken``: ids of nodes that are part of other layers; the
    addition is put there.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or len(node.output) != 1:
        return None
    transposed = node.op_type == "ConvTranspose"
    groups = attributes(node).get("group", 1)
    x = _dequantised(graph, known, node.input[0])
    w = _dequantised(graph, known, node.input[1], axis=int(transposed))
    if x is None or w is None or w.array is None or w.array.ndim < 3 or x.scale.size != 1:
        return None
    if transposed:  # one for each output channel of a group, the same in every group
        w = replace(w, scale=_repeated(w.scale, groups), zero_point=_repeated(w.zero_point, groups))
    x_shape = value_of(graph, known, node.input[0]).shape
    channels = w.array.shape[1] * groups if transposed else w.array.shape[0]
    added = _residual_after(graph, known, node.output[0], taken)
    end = node.output[0] if added is None else added.value
    y = _quantised_after(graph, end, channels, len(x_shape))
    if y is None:
        return None
    constants = {
        "w": w.array, "x_scale": x.scale, "x_zero_point": x.zero_point, "w_scale": w.scale,
        "w_zero_point": w.zero_point, "y_scale": y.scale, "y_zero_point": y.zero_point,
    }  # fmt: skip
    inputs, nodes = {"x": x.value}, [node, *y.nodes]
    if added is not None:
        r = _dequantised(graph, known, added.other)
        if r is None or r.array is not None or r.scale.size != 1 or r.zero_point.dtype != y.zero_point.dtype:
            return None
        constants |= {"r_scale": r.scale, "r_zero_point": r.zero_point}
        inputs["residual"] = r.value
        nodes.insert(1, added.node)
    biases = [_dequantised(graph, known, name) for name in node.input[2:] if name]
    steps = x.scale.astype(np.float64) * w.scale
    for bias in biases:
        if bias is None or bias.array is None or bias.array.dtype != np.int32 or bias.zero_point.any():
            return None
        if bias.scale.size not in (1, channels) or not np.allclose(bias.scale, steps, rtol=1e-5, atol=0):
            return None
        constants["bias"] = bias.array
    types = [part.zero_point.dtype.name for part in (x, w, y)]
    if any(dtype not in BYTES for dtype in types):
        return None
    spec = integer_spec(
        node, Value(x_shape, types[0]), Value(w.array.shape, types[1]), bias=bool(biases), out_dtype=types[2],
        residual=added is not None, activation=y.activation, layout=layout,
    )  # fmt: skip
    if added is not None:
        taken.add(id(added.node))
    names = tuple(node_name(part) for part in nodes)
    return Layer(names[0], spec, names, inputs, y.value, weights_of(spec, constants, {}), {})


def _repeated(values: np.ndarray, groups: int) -> np.ndarray:
    return np.tile(values, groups) if values.size > 1 else values


def _residual_after(
    graph: Graph, known: Mapping[str, Value], value: str, taken: Collection[int]
) -> Sum | None:
    """The addition that alone reads a convolution's result."""
    return residual_after(graph, value, known[value].shape, known, taken) if value in known else None


def _dequantised(graph: Graph, known: Mapping[str, Value], value: str, axis: int = 0) -> _Steps | None:
    """What a value is dequantised from; None if it is not, or in a way that no convolution can take: scales
    of constants may be many, along a dim."""
    node = graph.producer(value)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    source = node.input[0]
    if graph.constant(source) is None and source not in known:
        return None
    return _steps(graph, node, source, value_of(graph, known, source).dtype, axis=axis)


def _quantised_after(graph: Graph, value: str, channels: int, rank: int) -> _Steps | None:
    """What a convolution's result is quantised to, alone, perhaps after an activation."""
    found = match(graph, value, channels, rank)
    nodes, end = ((), value) if found is None else (found.nodes, found.value)
    consumers = graph.consumers(end)
    if len(consumers) != 1 or end in graph.outputs or consumers[0].op_type != "QuantizeLinear":
        return None
    (node,) = consumers
    dtype = {2: "uint8", 3: "int8"}.get(attributes(node).get("output_dtype", 2))  # ONNX's numbers for types
    steps = _steps(graph, node, node.output[0], dtype, nodes)
    if steps is None or steps.scale.size != 1 or steps.zero_point.dtype.name not in BYTES:
        return None
    if found is None or _implied(found.activation, steps):
        return steps
    return None if found.activation == "prelu" else replace(steps, activation=found.activation)


def _steps(
    graph: Graph, node: NodeProto, value: str, dtype: str | None, before: tuple[NodeProto, ...] = (),
    axis: int = 0,
) -> _Steps | None:  # fmt: skip
    """The constants of a DequantizeLinear or QuantizeLinear node; ``dtype``: of its integers, where they have
    no zero point that says it."""
    zero = node.input[2] if len(node.input) > 2 else ""
    scale, zero_point = graph.constant(node.input[1]), graph.constant(zero) if zero else None
    if scale is None or scale.dtype != np.float32 or scale.ndim > 1 or (zero and zero_point is None):
        return None
    if node.domain not in ("", "ai.onnx") or attributes(node).get("block_size", 0):
        return None
    array = graph.constant(value)
    if scale.size > 1 and (array is None or attributes(node).get("axis", 1) % array.ndim != axis):
        return None  # not a scale for each index of that dim
    if zero_point is None:
        if dtype is None:
            return None
        zero_point = np.zeros(scale.size, dtype)
    return _Steps(value, (*before, node), array, scale.reshape(-1), zero_point.reshape(-1))


def _implied(activation: str, steps: _Steps) -> bool:
    """Whether an activation is a clamp beyond which the quantised type has nothing."""
    bounds = clamp_of(activation)
    if bounds is None:
        return False
    limits = np.iinfo(steps.zero_point.dtype)
    lo, hi = (np.rint(bound / np.float64(steps.scale[0])) + steps.zero_point[0] for bound in bounds)
    return bool(lo <= limits.min and hi >= limits.max)
