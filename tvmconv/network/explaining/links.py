"""What an operator's results see of each of its inputs, axis by axis."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fractions import Fraction
from typing import Any

import numpy as np

from tvmconv.network.explaining.sight import MOST_SPANS, SAME, Sight, Span
from tvmconv.specs.operators import Copy, Layer, Map, MatMul, Normalise, Operator, Reduce, Resize, Type
from tvmconv.specs.spec import Spec

Links = Mapping[int, tuple[int, Sight]]
"""By axis of the input: the result's axis that follows it, and what its elements see of the input's. Every
result sees all of the axes that are not here."""


def links(op: Operator, number: int, axes: Collection[int]) -> Links:
    """The links of input ``number``, of those axes at least that are asked for, where they can be told."""
    if isinstance(op, Layer):
        return _layer(op.spec, op.arguments[number])
    if isinstance(op, Copy):
        return _copy(op, number, axes)
    if isinstance(op, Resize):
        return {axis: (axis, _resize(op, axis)) for axis in axes if 0 < op.shape[axis] <= MOST_SPANS}
    if isinstance(op, Reduce):
        return _reduce(op)
    if isinstance(op, Map):
        return _broadcast(op.inputs[number], op.infer()[0])
    if isinstance(op, Normalise):
        apart = _broadcast(op.inputs[number], op.infer()[0])
        return {axis: _all(op.inputs[0], axis) if axis in op.axes and number == 0 else link
                for axis, link in apart.items()}  # fmt: skip
    if isinstance(op, MatMul):
        return _matmul(op, number)
    return {}


def _all(type_: Type, axis: int) -> tuple[int, Sight]:
    return axis, Sight(0, ((0, type_.shape[axis] - 1),))


def _layer(spec: Spec, argument: str) -> Links:
    """Windows of x; residual, offset and mask are read where the result is. A deformable layer counts with
    offsets of 0."""
    if argument not in ("x", "residual", "offset", "mask"):
        return {}
    place = 1 if spec.channels_last else 2
    if argument != "x":
        return {0: (0, SAME), **{place + dim: (place + dim, SAME) for dim in range(spec.rank)}}
    return {0: (0, SAME), **{place + dim: (place + dim, _window(spec, dim)) for dim in range(spec.rank)}}


def _window(spec: Spec, dim: int) -> Sight:
    stride, (before, _) = spec.stride[dim], spec.padding[dim]
    reach = spec.dilation[dim] * (spec.kernel[dim] - 1)
    if not spec.transposed:
        found = Sight(stride, ((-before, reach - before),))
        return found if spec.padding_mode == "zeros" else _with_borders(spec, dim, found)
    spans = [(-((reach - before - i) // stride), (i + before) // stride) for i in range(stride)]
    return Sight(1, tuple(span if span[0] <= span[1] else None for span in spans))


def _with_borders(spec: Spec, dim: int, inside: Sight) -> Sight:
    """The link of windows whose padding holds elements of x."""
    size, count, last = spec.out_spatial[dim], spec.kernel[dim], spec.in_spatial[dim] - 1
    first = np.arange(size) * spec.stride[dim] - spec.padding[dim][0]
    places = first[:, None] + spec.dilation[dim] * np.arange(count)
    read = {
        "replicate": np.clip(places, 0, last), "circular": places % (last + 1),
        "reflect": last - np.abs(last - np.abs(places)),
    }[spec.padding_mode]  # fmt: skip
    rows = [(int(min(row)), int(max(row))) for row in read]
    return _unless_missed(inside, rows, last, spec.stride[dim] * size)


def _unless_missed(repeated: Sight, rows: list[Span], last: int, step: int) -> Sight:
    """A link, unless its spans miss something of what the rows really see: then the rows themselves."""
    for i, (first, end) in enumerate(rows):
        span = repeated.at(i)
        if span is None or max(span[0], 0) > first or min(span[1], last) < end:
            return Sight(step, tuple(rows))
    return repeated


def _broadcast(given: Type, result: Type) -> Links:
    more = len(result.shape) - len(given.shape)
    return {
        axis: (axis + more, SAME if size == result.shape[axis + more] else Sight(0, ((0, 0),)))
        for axis, size in enumerate(given.shape)
    }


def _reduce(op: Reduce) -> Links:
    found, place = {}, 0
    for axis in range(len(op.inputs[0].shape)):
        gone = axis in op.axes
        if not gone:
            found[axis] = place, SAME
        elif op.keepdims:
            found[axis] = place, _all(op.inputs[0], axis)[1]
        place += op.keepdims or not gone
    return found


def _matmul(op: MatMul, number: int) -> Links:
    given, result = op.inputs[number], op.infer()[0]
    if number == 2:
        return _broadcast(given, result)
    found = dict(_broadcast(Type((*given.shape[:-2], 1, 1), given.dtype), result))
    rank, swapped = len(given.shape), (op.transpose_a, op.transpose_b)[number]
    for axis in (rank - 2, rank - 1):
        del found[axis]
    outer = rank - 1 if (number == 1) != swapped else rank - 2
    return {**found, outer: (len(result.shape) - 2 + number, SAME)}


def _resize(op: Resize, axis: int) -> Sight:
    """The spans of the middle, which no border cuts, again and again; every row's own where these differ, as
    with align_corners."""
    indices, weights, _ = op.taps(axis)
    size, last = op.shape[axis], op.inputs[0].shape[axis] - 1
    taps = [indices[i][weights[i] != 0] for i in range(size)]
    rows = [(int(min(one)), int(max(one))) for one in taps]
    ratio = Fraction(size, last + 1)
    count, step = ratio.numerator, ratio.denominator
    middle = size // count // 2
    block = rows[middle * count : (middle + 1) * count]
    repeated = Sight(step, tuple((first - middle * step, end - middle * step) for first, end in block))
    return _unless_missed(repeated, rows, last, last + 1)


def _copy(op: Copy, number: int, axes: Collection[int]) -> Links:
    """Found by copying each element's place along an axis: that of a result has to depend on its place along
    one of its own axes, evenly."""
    found: dict[int, tuple[int, Sight]] = {}
    if 0 in op.shape:
        return found
    types = tuple(Type(one.shape, "int64") for one in op.inputs)
    places = Copy(types, op.shape, op.pieces, -1.0)
    given = [np.broadcast_to(np.int64(-1), one.shape) for one in types]
    for axis in axes:
        size = types[number].shape[axis]
        if size < 2:
            continue
        along = np.arange(size).reshape(-1, *(1,) * (len(types[number].shape) - axis - 1))
        given[number] = np.broadcast_to(along, types[number].shape)
        (copied,) = places.compute(given)
        for to in sorted(range(len(op.shape)), key=lambda to: abs(to - axis)):
            link = _even(copied, to)
            if link is not None:
                found[axis] = to, link
                break
    return found


def _even(places: np.ndarray[Any, Any], axis: int) -> Sight | None:
    """The link of an axis of results along which places rise evenly, and on which alone they depend."""
    others = tuple(dim for dim in range(places.ndim) if dim != axis)
    highest = places.max(others)
    lowest = np.where(places < 0, np.iinfo(places.dtype).max, places).min(others)
    (there,) = np.nonzero(highest >= 0)
    if len(there) < 2 or not np.array_equal(highest[there], lowest[there]):
        return None
    rises, apart = np.diff(highest[there]), np.diff(there)
    step = int(rises[0] // apart[0])
    if step < 1 or not np.array_equal(rises, step * apart):
        return None
    start = int(highest[there[0]] - step * there[0])
    return Sight(step, ((start, start),))


