"""ONNX's poolings: as specs, as layers of models, and run as single nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.errors import SpecError
from tvmconv.onnx.attributes import padding, per_dim
from tvmconv.onnx.graph import Graph, Value, attributes, node_name, value_of
from tvmconv.onnx.layers import Layer, shape_in
from tvmconv.pool_spec import PoolSpec

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]


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


def run_pool(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    """The output of a pooling node. Raises SpecError."""
    from tvmconv.api import function

    name = node_name(node)
    if len(arrays) != 1 or arrays[0] is None:
        raise SpecError(f"node {name}: inputs: {len(arrays)} of them, expected x")
    (x,) = arrays
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
