"""ONNX's DFT as a product with a constant matrix of sines and cosines."""

from __future__ import annotations

import numpy as np

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.specs.operators import MatMul
from tvmconv.specs.operators.base import read_axes
from tvmconv.specs.operators.copy import indexed, permuted, reshaped

MOST = 4096  # elements of the axis


def _dft(call: Call) -> None:
    """x (..., 1) of reals or (..., 2) of complex numbers; the axis's length, cut or filled up with zeros, is
    the transform's."""
    x, told = call.type(0), call.attributes
    rank, inverse, onesided = len(x.shape), bool(told.get("inverse", 0)), bool(told.get("onesided", 0))
    if call.opset < 20 or not call.has(2):
        stated = int(told.get("axis", 1 if call.opset < 20 else -2))
    else:
        stated = int(call.constant(2, "axis").reshape(()))
    (axis,) = read_axes("DFT", [stated], rank)
    parts = x.shape[-1]
    if x.dtype not in FLOATS or parts not in (1, 2) or axis == rank - 1:
        raise Error(f"x: {x}, axis {axis}, expected floats, 1 or 2 of them in the last dim, another axis")
    length = int(call.constant(1, "dft_length").reshape(())) if call.has(1) else x.shape[axis]
    back = inverse and onesided  # from half a spectrum to reals
    if back and not call.has(1):
        length = 2 * (x.shape[axis] - 1)
    if not 0 < length <= MOST:
        raise Error(f"dft_length: {length}, expected 1 to {MOST}")
    half = length // 2 + 1
    read = half if back else length
    value = call.input(0)
    if x.shape[axis] != read:
        vectors: list[list[int] | None] = [None] * rank
        vectors[axis] = [i if i < x.shape[axis] else -1 for i in range(read)]
        value = call.between(indexed(x, vectors), [value])
    last = [*(dim for dim in range(rank - 1) if dim != axis), axis, rank - 1]
    value = call.between(permuted(call.editor.types[value], last), [value])
    around = tuple(x.shape[dim] for dim in last[:-2])
    made = half if onesided and not inverse else length
    matrix = _matrix(length, read, made, parts, inverse, back)
    value = call.reshape(value, (*around, read * parts))
    weights = call.array(matrix, x.dtype)
    op = MatMul((call.editor.types[value], call.editor.types[weights]))
    value = call.between(op, [value, weights])
    out = 1 if back else 2
    value = call.reshape(value, (*around, made, out))
    order = [last.index(dim) for dim in range(rank)]
    if order == list(range(rank)):
        call.give(reshaped(call.editor.types[value], call.editor.types[value].shape), [value])
    else:
        call.give(permuted(call.editor.types[value], order), [value])


def _matrix(length: int, read: int, made: int, parts: int, inverse: bool, back: bool) -> np.ndarray:
    """(read * parts, made * (2, or 1 of reals)): what of each element goes into each result."""
    turns = np.outer(np.arange(read), np.arange(made)) % length
    angle = (2 if inverse else -2) * np.pi * turns / length
    real, imaginary = np.cos(angle), np.sin(angle)
    if inverse:
        real, imaginary = real / length, imaginary / length
    if back:  # those of the half that is not there are conjugates
        twice = np.where((np.arange(read) == 0) | (2 * np.arange(read) == length), 1, 2)[:, None]
        columns = [[twice * real], [-twice * imaginary]]
    else:
        columns = [[real, imaginary], [-imaginary, real]]
    rows = [np.stack(column, -1).reshape(read, -1) for column in columns[:parts]]
    return np.stack(rows, 1).reshape(read * parts, -1)


IMPORTERS: dict[str, Importer] = {"DFT": _dft}
