"""ONNX's operators that read or write elements at indices: copies of those that are known, gathers and
scatters of those that the network computes."""

from __future__ import annotations

import math

import numpy as np

from tvmconv.base.errors import Error, SpecError
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.specs.operators import Gather, Reduce, Scatter
from tvmconv.specs.operators.copy import expanded, indexed, reshaped


def _gather(call: Call) -> None:
    x = call.type(0)
    axis = call.axis(0, len(x.shape))
    indices = call.known(1)
    if indices is None:
        call.give(Gather((x, call.type(1)), axis), [call.input(0), call.input(1)])
        return
    _check(indices, x.shape[axis])
    flat = [int(i) + x.shape[axis] * (int(i) < 0) for i in indices.reshape(-1)]
    try:
        op = indexed(x, [flat if dim == axis else None for dim in range(len(x.shape))])
    except SpecError:  # in too many runs
        call.give(Gather((x, call.type(1)), axis), [call.input(0), call.input(1)])
        return
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    if op.shape == shape:
        call.give(op, [call.input(0)])
    else:
        value = call.between(op, [call.input(0)])
        call.give(reshaped(call.editor.types[value], shape), [value])


def _check(indices: np.ndarray, size: int) -> None:
    """Raise Error for known indices that are beyond an axis."""
    if indices.size and not -size <= indices.min() <= indices.max() < size:
        what = f"indices: from {indices.min()} to {indices.max()}"
        raise Error(f"{what}, expected {-size} to {size - 1}")


def _gather_elements(call: Call) -> None:
    x = call.type(0)
    axis = call.axis(0, len(x.shape))
    if (known := call.known(1)) is not None:
        _check(known, x.shape[axis])
    call.give(Gather((x, call.type(1)), axis, True), [call.input(0), call.input(1)])


def _scatter_elements(call: Call) -> None:
    x = call.type(0)
    axis = call.axis(0, len(x.shape))
    if (known := call.known(1)) is not None:
        _check(known, x.shape[axis])
    types = (x, call.type(1), call.type(2))
    reduction = call.attributes.get("reduction", "none")
    call.give(Scatter(types, axis, reduction), [call.input(number) for number in range(3)])


def _gather_nd(call: Call) -> None:
    """Rows of x, whose first dims are one, at indices that are one number."""
    x, indices = call.type(0), call.type(1)
    if call.attributes.get("batch_dims", 0):
        raise Error(f"batch_dims: {call.attributes['batch_dims']}, expected 0")
    first, count = _first(call, x.shape, indices.shape)
    flat = call.reshape(call.input(0), (first, math.prod(x.shape[count:])))
    places = _linear(call, count)
    op = Gather((call.editor.types[flat], call.editor.types[places]), 0)
    rows = call.between(op, [flat, places])
    call.give(reshaped(call.editor.types[rows], (*indices.shape[:-1], *x.shape[count:])), [rows])


def _scatter_nd(call: Call) -> None:
    """The same, written: each index stands for all elements of its row."""
    x, indices = call.type(0), call.type(1)
    first, count = _first(call, x.shape, indices.shape)
    width, rows = math.prod(x.shape[count:]), math.prod(indices.shape[:-1])
    flat = call.reshape(call.input(0), (first, width))
    column = call.reshape(_linear(call, count), (rows, 1))
    if width != 1:
        column = call.between(expanded(call.editor.types[column], (rows, width)), [column])
    values = [flat, column, call.reshape(call.input(2), (rows, width))]
    types = tuple(call.editor.types[value] for value in values)
    made = call.between(Scatter(types, 0, call.attributes.get("reduction", "none")), values)
    call.give(reshaped(call.editor.types[made], x.shape), [made])


def _first(call: Call, shape: tuple[int, ...], indices: tuple[int, ...]) -> tuple[int, int]:
    """(elements of the dims of x that an index names, how many these dims are)"""
    count = indices[-1] if indices else 0
    if not 1 <= count <= len(shape):
        raise Error(f"indices: of shape {indices}, expected a last dim from 1 to {len(shape)}")
    return math.prod(shape[:count]), count


def _linear(call: Call, count: int) -> str:
    """The indices' last dim as one number: the place among the first dims of x, each held inside its own."""
    sizes = call.type(0).shape[:count]
    dtype = call.type(1).dtype
    most = call.array(np.asarray(sizes), dtype)
    apart = call.array(np.asarray([math.prod(sizes[at + 1 :]) for at in range(count)]), dtype)
    text = "mul(max(min(where(less(a,0),add(a,b),a),sub(b,1)),0),c)"
    each = call.between(*call.map(text, [call.input(1), most, apart]))
    axis = len(call.type(1).shape) - 1
    return call.between(Reduce((call.editor.types[each],), "sum", (axis,), False), [each])


IMPORTERS: dict[str, Importer] = {
    "Gather": _gather, "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd, "Scatter": _scatter_elements,
}  # fmt: skip
