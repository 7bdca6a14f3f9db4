"""ONNX's poolings: as specs, as layers of models, and run as single nodes; the mean or the largest value over
an image (ReduceMean, ReduceMax) among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import padding, per_dim, shape_in
from tvmconv.onnx.reading.graph import Graph, Value, attributes, node_name, value_of
from tvmconv.onnx.recognising.layers import Layer
from tvmconv.specs.pooling import PoolSpec

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]

REDUCTIONS = {"ReduceMean": "avg", "ReduceMax": "max"}


def pool_spec(
    node: NodeProto, x_shape: Sequence[int], dtype: str = "float32", layout: str = "NCHW"
) -> PoolSpec:
    """The spec of MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool; ``x_shape`` is ONNX's (N, C,
    *spatial), ``layout`` that of the spec. Raises SpecError."""
    x = tuple(x_shape)
    if not 3 <= len(x) <= 5:
        raise SpecError(f"x: shape {x}, expected 3 to 5 dims (1 to 3 of them spatial)")
    operation = "max" if "Max" in node.op_type else "avg"
    if node.op_type.startswith("Global"):
        return PoolSpec(shape_in(layout, x), x[2:], operation=operation, dtype=dtype, layout=layout)
    found = attributes(node)
    if "kernel_shape" not in found:
        raise SpecError("kernel_shape: none, expected one size a spatial dim")
    rank = len(x) - 2
    kernel, strides, dilations = (
        per_dim(found, name, rank) for name in ("kernel_shape", "strides", "dilations")
    )
    # auto_pad is computed for a rounded-down count; with VALID, ceil_mode may still add a window.
    pads = padding(found, x[2:], kernel, strides, dilations)
    return PoolSpec(
        shape_in(layout, x), kernel, operation=operation, stride=strides, padding=pads, dilation=dilations,
        ceil_mode=bool(found.get("ceil_mode", 0)), dtype=dtype, layout=layout,
        count_include_pad=operation == "avg" and bool(found.get("count_include_pad", 0)),
    )  # fmt: skip


def pool_layer(graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str) -> Layer:
    """A pooling node as a layer; raises SpecError for one that cannot be."""
    if len(node.output) > 1 and node.output[1]:
        raise SpecError("Indices: kernels have no such result")
    x = value_of(graph, known, node.input[0])
    name = node_name(node)
    spec = pool_spec(node, x.shape, x.dtype, layout)
    return Layer(name, spec, (name,), {"x": node.input[0]}, node.output[0], {}, {})


def reduces_image(graph: Graph, node: NodeProto, known: Mapping[str, Value]) -> bool:
    """Whether a ReduceMean or ReduceMax is over all dims of an image, (N, C, *spatial), and these alone."""
    x = known.get(node.input[0])
    if x is None or not 3 <= len(x.shape) <= 5:
        return False
    axes = _axes(node, graph.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None)
    rank = len(x.shape)
    return sorted(axis % rank for axis in axes if -rank <= axis < rank) == list(range(2, rank))


def reduction_layer(graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str) -> Layer:
    """A reduction over an image as a global pooling. With ``keepdims=0`` its y is (N, C): the same numbers,
    without the dims of size 1 that the kernel's result has. Raises SpecError for one that cannot be."""
    shape, dtype = known[node.input[0]]
    spec = PoolSpec(
        shape_in(layout, shape), shape[2:], operation=REDUCTIONS[node.op_type], dtype=dtype, layout=layout
    )
    name = node_name(node)
    return Layer(name, spec, (name,), {"x": node.input[0]}, node.output[0], {}, {})


def run_reduction(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    """The output of ReduceMean or ReduceMax over any axes, as a global pooling of lines. Raises SpecError."""
    from tvmconv.frontends.api import function

    name, found = node_name(node), attributes(node)
    if len(arrays) not in (1, 2) or arrays[0] is None:
        raise SpecError(f"node {name}: inputs: {len(arrays)} of them, expected x and maybe axes")
    x = arrays[0]
    axes = _axes(node, arrays[1] if len(arrays) > 1 else None)
    if any(not -x.ndim <= axis < x.ndim for axis in axes):
        raise SpecError(f"node {name}: axes: {axes}, expected dims of x {x.shape}")
    over = sorted({axis % x.ndim for axis in axes})
    if not over and found.get("noop_with_empty_axes", 0):
        return [x.copy()]
    over = over or list(range(x.ndim))
    length = math.prod(x.shape[axis] for axis in over)
    lines = np.moveaxis(x, over, range(-len(over), 0)).reshape(1, x.size // max(length, 1), length)
    try:
        spec = PoolSpec(lines.shape, lines.shape[2:], operation=REDUCTIONS[node.op_type], dtype=name_of(x))
        y = function(spec, target)(np.ascontiguousarray(lines))
    except SpecError as error:
        raise SpecError(f"node {name}: {error}") from None
    shape = np.array([1 if axis in over else size for axis, size in enumerate(x.shape)], int)
    return [y.reshape(shape if found.get("keepdims", 1) else np.delete(shape, over))]


def _axes(node: NodeProto, given: Array | None) -> list[int]:
    """The axes that a reduction states, by its second input or (before opset 18) its attribute; none: all."""
    stated = attributes(node).get("axes", ()) if given is None else given.reshape(-1)
    return [int(axis) for axis in stated]


def run_pool(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    """The output of a pooling node. Raises SpecError."""
    from tvmconv.frontends.api import function

    name = node_name(node)
    if len(arrays) != 1 or arrays[0] is None:
        raise SpecError(f"node {name}: inputs: {len(arrays)} of them, expected x")
    x = arrays[0]
    indices = len(node.output) > 1 and bool(node.output[1])
    try:
        spec = pool_spec(node, x.shape, x.dtype.name)
        y = function(spec, target)(x)
        if not indices:
            return [y]
        order = attributes(node).get("storage_order", 0)
        return [y, max_indices(spec, x, y, column_major=bool(order))]
    except SpecError as error:
        raise SpecError(f"node {name}: {error}") from None


def max_indices(spec: PoolSpec, x: Array, y: Array, *, column_major: bool = False) -> Array:
    """ONNX's Indices of a max pooling with the result ``y``: for each maximum its place in x flattened, the
    first of the window; int64. ``column_major``: the last two dims of an image are swapped in that place.
    NumPy's work, not a kernel's. Channels-first."""
    rank, spatial = spec.rank, spec.in_spatial
    pads = [
        (
            lo,
            max(
                0,
                spec.dilation[d] * (spec.kernel[d] - 1)
                + (spec.out_spatial[d] - 1) * spec.stride[d]
                + 1
                - lo
                - spatial[d],
            ),
        )
        for d, (lo, _) in enumerate(spec.padding)
    ]
    outside = [(0, 0), (0, 0), *pads]
    strides = np.cumprod([1, *spatial[:0:-1]])[::-1] if not column_major else np.cumprod([1, *spatial[:-1]])
    place = sum(
        np.arange(size).reshape(-1, *(1,) * (rank - 1 - d)) * int(strides[d])
        for d, size in enumerate(spatial)
    )
    planes = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * rank) * int(np.prod(spatial))
    places = np.pad(place, pads, constant_values=-1)
    values = np.pad(x, outside)
    best = np.full(y.shape, -1, np.int64)
    for tap in np.ndindex(*spec.kernel):
        at = tuple(
            slice(t * d, t * d + (out - 1) * s + 1, s)
            for t, d, s, out in zip(tap, spec.dilation, spec.stride, spec.out_spatial, strict=True)
        )
        seen, here = values[(slice(None), slice(None), *at)], places[at]
        equal = (seen == y) | ((seen != seen) & (y != y))
        best = np.where((best < 0) & (here >= 0) & equal, here + planes, best)
    return best
