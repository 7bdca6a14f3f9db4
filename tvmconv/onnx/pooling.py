"""ONNX's poolings and DeformConv, as single nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.deform_spec import DeformSpec
from tvmconv.errors import SpecError
from tvmconv.onnx.attributes import padding
from tvmconv.onnx.graph import attributes, node_name
from tvmconv.pool_spec import PoolSpec

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]


def pool_spec(node: NodeProto, x_shape: Sequence[int], dtype: str = "float32") -> PoolSpec:
    """The spec of MaxPool, AveragePool, GlobalMaxPool, GlobalAveragePool. Raises SpecError."""
    x = tuple(x_shape)
    if not 3 <= len(x) <= 5:
        raise SpecError(f"x: shape {x}, expected 3 to 5 dims (1 to 3 of them spatial)")
    operation = "max" if "Max" in node.op_type else "avg"
    if node.op_type.startswith("Global"):
        return PoolSpec(x, x[2:], operation=operation, dtype=dtype)
    found = attributes(node)
    if "kernel_shape" not in found:
        raise SpecError("kernel_shape: none, expected one size a spatial dim")
    rank = len(x) - 2
    kernel, strides, dilations = (
        _per_dim(found, name, rank) for name in ("kernel_shape", "strides", "dilations")
    )
    # auto_pad is computed for a rounded-down count; with VALID, ceil_mode may still add a window.
    pads = padding(found, x[2:], kernel, strides, dilations)
    return PoolSpec(
        x, kernel, operation=operation, stride=strides, padding=pads, dilation=dilations,
        ceil_mode=bool(found.get("ceil_mode", 0)), dtype=dtype,
        count_include_pad=operation == "avg" and bool(found.get("count_include_pad", 0)),
    )  # fmt: skip


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
    pads = [(lo, max(0, spec.dilation[d] * (spec.kernel[d] - 1) + (spec.out_spatial[d] - 1) * spec.stride[d]
                     + 1 - lo - spatial[d])) for d, (lo, _) in enumerate(spec.padding)]
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


def run_deform(node: NodeProto, arrays: list[Array | None], target: str) -> list[Array]:
    """The output of a DeformConv node: x, w, offset, and maybe bias and mask. Raises SpecError."""
    from tvmconv.api import function

    try:
        x, w, offset, bias, mask = [*arrays, *[None] * (5 - len(arrays))]
        for name, array in (("x", x), ("w", w), ("offset", offset)):
            if array is None:
                raise SpecError(f"inputs: no {name}, expected x, w, offset and maybe bias, mask")
        if x.ndim != 4 or w.ndim != 4:
            raise SpecError(f"x: shape {x.shape}, expected 4 dims, as w: {w.shape}")
        found = attributes(node)
        stated = found.get("kernel_shape")
        if stated is not None and tuple(stated) != w.shape[2:]:
            raise SpecError(f"kernel_shape: {tuple(stated)}, expected {w.shape[2:]} as w {w.shape} has")
        strides, dilations = _per_dim(found, "strides", 2), _per_dim(found, "dilations", 2)
        spec = DeformSpec(
            x.shape, w.shape[0], w.shape[2:], stride=strides, dilation=dilations,
            padding=padding(found, x.shape[2:], w.shape[2:], strides, dilations),
            groups=found.get("group", 1), offset_groups=found.get("offset_group", 1),
            mask=mask is not None, bias=bias is not None, dtype=x.dtype.name,
        )  # fmt: skip
        inputs = [offset] if mask is None else [offset, mask]
        return [function(spec, target)(x, w, bias, *inputs)]
    except SpecError as error:
        raise SpecError(f"node {node_name(node)}: {error}") from None


def _per_dim(found: dict[str, Any], name: str, rank: int) -> tuple[int, ...]:
    values = tuple(found.get(name, (1,) * rank))
    if len(values) != rank or min(values) < 1:
        raise SpecError(f"{name}: {values}, expected {rank} positive integers")
    return values
