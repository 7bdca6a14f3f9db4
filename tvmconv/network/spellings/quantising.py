"""ONNX's operators between floats and integers of 8 bits, and products of these."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tvmconv.base.dtypes import BYTES, FLOATS
from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer, dtype_named
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Layer, MatMul, Reduce


def _quantised(text: str, dtype: str) -> str:
    """A float expression of whole numbers held inside an integer type. (Where what it is of is rounded to a
    half or not decides, operands are cast: in the referee too they are then of their own type.)"""
    limits = np.iinfo(dtype)
    return f"cast_{dtype}(clip({text},{limits.min},{limits.max}))"


def _dynamic(call: Call) -> None:
    for number, value in enumerate(quantised(call, call.input(0))):
        call.give_value(value, number)


def quantised(call: Call, value: str) -> tuple[str, str, str]:
    """(the value in 8 bits, its scale, its zero point), by its least and largest element."""
    x = call.editor.types[value]
    if x.dtype != "float32":
        raise Error(f"x: {x}, expected float32")
    axes = tuple(range(len(x.shape)))
    least, most = (call.between(Reduce((x,), name, axes, False), [value]) for name in ("min", "max"))
    span = "cast_float32(sub(max(b,0),min(a,0)))"
    text = f"where(greater({span},0),cast_float32(div({span},255)),1)"
    scale = call.between(*call.map(text, [least, most]))
    zero = _quantised("round(cast_float32(div(neg(min(a,0)),b)))", "uint8")
    zeros = call.between(*call.map(zero, [least, scale]))
    each = _quantised("add(round(cast_float32(div(a,b))),cast_float32(c))", "uint8")
    return call.between(*call.map(each, [value, scale, zeros])), scale, zeros


def _quantize(call: Call) -> None:
    x, dtype = call.type(0), "uint8"
    if call.has(2):
        dtype = call.type(2).dtype
    elif call.attributes.get("output_dtype"):
        dtype = dtype_named(call.attributes["output_dtype"])
    if x.dtype not in FLOATS or dtype not in ("int8", "uint8", "int16", "uint16"):
        raise Error(f"x {x}, result {dtype}, expected floats, and integers of 8 or 16 bits")
    values = [call.input(0), _beside(call, 1)]
    text = f"round(cast_{x.dtype}(div(cast_{x.dtype}(a),cast_{x.dtype}(b))))"
    if call.has(2):
        values.append(_beside(call, 2))
        text = f"add({text},cast_{x.dtype}(c))"
    call.give_map(_quantised(text, dtype), values)


def _dequantize(call: Call) -> None:
    dtype = call.type(1).dtype
    values, text = [call.input(0), _beside(call, 1)], "cast_int32(a)"
    if call.has(2):
        values.append(_beside(call, 2))
        text = "sub(cast_int32(a),cast_int32(c))"
    call.give_map(f"mul(cast_{dtype}({text}),b)", values)


def _beside(call: Call, number: int) -> str:
    """A scale or zero point, one or one a slice of the axis, in the dims of x."""
    shape, own = call.type(0).shape, call.type(number).shape
    if call.attributes.get("block_size"):
        raise Error(f"block_size: {call.attributes['block_size']}, expected none")
    if math.prod(own) == 1:
        return call.reshape(call.input(number), ())
    axis = call.axis(1, len(shape))
    if own != (shape[axis],):
        raise Error(f"input {number}: of shape {own}, expected one number, or {shape[axis]}")
    return call.reshape(call.input(number), (shape[axis], *(1,) * (len(shape) - axis - 1)))


def _matmul_integer(call: Call) -> None:
    """By a constant matrix a convolution of one tap; else the product of differences, in int32."""
    a, b = call.type(0), call.type(1)
    if a.dtype not in BYTES or b.dtype not in BYTES:
        raise Error(f"{a} by {b}, expected integers of 8 bits")
    weights, zeros = call.known(1), call.known(3)
    one = not call.has(2) or call.type(2).size == 1
    constant = weights is not None and weights.ndim == 2 and (not call.has(3) or zeros is not None)
    if weights is not None and constant and one and len(a.shape) > 1 and a.size:
        zero = call.input(2) if call.has(2) else call.array(np.zeros(1), a.dtype)
        y = integer_product(call, call.input(0), zero, Weights.of(call, weights, zeros))
        call.give_value(y)
        return
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise Error(f"{a} by {b}, expected 2 dims or more each")
    values = []
    for number, shape in ((0, (-1, 1)), (1, (1, -1))):  # zero points of a's rows, of b's columns
        value, place = call.input(number), number + 2
        if not call.has(place):
            values.append(call.between(*call.map("cast_int32(a)", [value])))
            continue
        own = call.type(place)
        if len(own.shape) < 2:
            wide = () if own.size == 1 else tuple(own.size if dim < 0 else 1 for dim in shape)
            apart = call.reshape(call.input(place), wide)
        else:
            apart = call.input(place)
        values.append(call.between(*call.map("sub(cast_int32(a),cast_int32(b))", [value, apart])))
    call.give(MatMul(tuple(call.editor.types[value] for value in values)), values)


class Weights(NamedTuple):
    """A constant matrix of 8-bit integers and the zero points of its columns, by their names in the graph."""

    matrix: str
    zeros: str

    @classmethod
    def of(cls, call: Call, matrix: np.ndarray, zeros: np.ndarray | None) -> Weights:
        """zeros: one a column, or one for all; None for 0."""
        own = np.zeros(1, matrix.dtype) if zeros is None else zeros.reshape(-1)
        wide = np.ascontiguousarray(np.broadcast_to(own, matrix.shape[1:]))
        held = np.ascontiguousarray(matrix.reshape(1, *matrix.shape))
        return cls(call.editor.constant(held, call.name), call.editor.constant(wide, call.name))


def integer_product(call: Call, value: str, zero: str, weights: Weights) -> str:
    """(value - zero) times a matrix, in int32: a convolution of one tap."""
    a, matrix = call.editor.types[value], call.editor.types[weights.matrix]
    _, inner, columns = matrix.shape
    rows = math.prod(a.shape[:-1])
    spec = ConvSpec((1, rows, inner), columns, 1, layout="NHWC", dtype=a.dtype, weight_dtype=matrix.dtype,
                    out_dtype="int32")  # fmt: skip
    names = [call.reshape(value, (1, rows, inner)), weights.matrix, call.reshape(zero, (1,)), weights.zeros]
    arguments = ("x", "w", "x_zero_point", "w_zero_point")
    layer = Layer(tuple(call.editor.types[name] for name in names), spec, arguments)
    return call.reshape(call.between(layer, names), (*a.shape[:-1], columns))


IMPORTERS: dict[str, Importer] = {
    "DynamicQuantizeLinear": _dynamic, "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize,
    "MatMulInteger": _matmul_integer,
}  # fmt: skip
