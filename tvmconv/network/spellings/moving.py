"""ONNX's operators that move elements, as copies; and those that state shapes, as constants."""

from __future__ import annotations

import math

import numpy as np

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer, supported
from tvmconv.onnx.reading.constants import slice_of
from tvmconv.specs.operators.base import read_axes
from tvmconv.specs.operators.copy import expanded, indexed, joined, permuted, reshaped


def _give_shape(call: Call, shape: list[int] | tuple[int, ...], output: int = 0) -> None:
    """A result that is the first input in another shape."""
    found, shape = call.type(0), tuple(int(dim) for dim in shape)
    if shape == found.shape:
        call.give_value(call.input(0), output)
    else:
        call.give(reshaped(found, shape), [call.input(0)], output)


def _reshape(call: Call) -> None:
    stated, x = call.ints(1, "shape"), call.type(0)
    if stated is None:
        raise Error("shape: missing")
    if not call.attributes.get("allowzero"):
        if any(dim == 0 and at >= len(x.shape) for at, dim in enumerate(stated)):
            raise Error(f"shape: {stated}, expected 0 only where x {x.shape} has a dim")
        stated = [x.shape[at] if dim == 0 else dim for at, dim in enumerate(stated)]
    if stated.count(-1) > 1 or min(stated, default=0) < -1:
        raise Error(f"shape: {stated}, expected at most one -1")
    if -1 in stated:
        rest = math.prod(dim for dim in stated if dim != -1)
        stated[stated.index(-1)] = x.size // rest if rest else 0
    _give_shape(call, stated)


def _flatten(call: Call) -> None:
    shape = call.type(0).shape
    axis = int(call.attributes.get("axis", 1))
    axis = axis + len(shape) if axis < 0 else axis
    if not 0 <= axis <= len(shape):
        raise Error(f"axis: {axis}, expected at most {len(shape)}")
    _give_shape(call, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(call: Call) -> None:
    shape, axes = call.type(0).shape, call.ints(1, "axes")
    if axes is None:
        axes = [axis for axis, size in enumerate(shape) if size == 1]
    over = read_axes("axes", axes, len(shape))
    if any(shape[axis] != 1 for axis in over):
        raise Error(f"axes: {over} of {shape}, expected dims of size 1")
    _give_shape(call, [size for axis, size in enumerate(shape) if axis not in over])


def _unsqueeze(call: Call) -> None:
    shape, axes = list(call.type(0).shape), call.ints(1, "axes")
    if axes is None:
        raise Error("axes: missing")
    for axis in read_axes("axes", axes, len(shape) + len(axes)):
        shape.insert(axis, 1)
    _give_shape(call, shape)


def _transpose(call: Call) -> None:
    x = call.type(0)
    order = [int(dim) for dim in call.attributes.get("perm", range(len(x.shape))[::-1])]
    call.give(permuted(x, order), [call.input(0)])


def _concat(call: Call) -> None:
    values = call.inputs()
    types = [call.editor.types[value] for value in values]
    axis = call.axis(1 if call.opset < 4 else 0, len(types[0].shape))
    if len(values) == 1:
        call.give_value(values[0])
    else:
        call.give(joined(types, axis), values)


def _split(call: Call) -> None:
    x = call.type(0)
    axis = call.axis(0, len(x.shape))
    size, count = x.shape[axis], len(call.node.output)
    lengths = call.ints(1, "split")
    if lengths is None:
        each = -(-size // int(call.attributes.get("num_outputs", count)))
        lengths = [max(0, min(each, size - at * each)) for at in range(count)]
    if len(lengths) != count or sum(lengths) != size:
        raise Error(f"split: {lengths}, expected {count} lengths, {size} in all")
    at = 0
    for number, length in enumerate(lengths):
        if call.node.output[number]:
            vectors = [range(at, at + length) if dim == axis else None for dim in range(len(x.shape))]
            call.give(indexed(x, vectors), [call.input(0)], number)
        at += length


def _slice(call: Call) -> None:
    x = call.type(0)
    starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
    if starts is None or ends is None:
        raise Error("starts, ends: missing")
    axes, steps = call.ints(3, "axes"), call.ints(4, "steps")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise Error(f"starts {starts}, ends {ends}, axes {axes}, steps {steps}: expected as many of each")
    vectors: list[range | None] = [None] * len(x.shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        (axis,) = read_axes("axes", [axis], len(x.shape))
        vectors[axis] = range(x.shape[axis])[slice_of(start, end, step, x.shape[axis])]
    if all(vector is None or vector == range(size) for vector, size in zip(vectors, x.shape, strict=True)):
        call.give_value(call.input(0))
    else:
        call.give(indexed(x, vectors), [call.input(0)])


def _pad(call: Call) -> None:
    x, mode = call.type(0), call.attributes.get("mode", "constant")
    flat = call.ints(1, "pads" if "pads" in call.attributes else "paddings", "pads")
    if flat is None:
        raise Error("pads: missing")
    rank = len(x.shape)
    axes = read_axes_in_order(call.ints(3, "axes"), rank)
    if len(flat) != 2 * len(axes):
        raise Error(f"pads: {len(flat)} numbers, expected {2 * len(axes)}")
    value = float(call.attributes.get("value", 0.0))
    if call.has(2) and mode == "constant":
        value = float(call.constant(2, "constant_value").reshape(()))
    vectors: list[list[int] | None] = [None] * rank
    for axis, lo, hi in zip(axes, flat[: len(axes)], flat[len(axes) :], strict=True):
        if lo or hi:
            vectors[axis] = _padded(x.shape[axis], lo, hi, mode)
    if all(vector is None for vector in vectors):
        call.give_value(call.input(0))
    else:
        call.give(indexed(x, vectors, value), [call.input(0)])


def read_axes_in_order(axes: list[int] | None, rank: int) -> list[int]:
    """Axes from 0, in the order in which they are stated; all of them where none are."""
    if axes is None:
        return list(range(rank))
    read_axes("axes", axes, rank)
    return [axis % rank for axis in axes]


def _padded(size: int, lo: int, hi: int, mode: str) -> list[int]:
    """Where each element of a padded axis comes from; -1 for the constant. Negative pads cut off."""
    if mode not in ("constant", "edge", "reflect", "wrap"):
        raise Error(f"mode: {mode!r}, expected constant, edge, reflect or wrap")
    if mode != "constant" and size == 0 and lo + hi > 0:
        raise Error(f"mode: {mode} of an axis without elements")
    cut = range(max(0, -lo), size - max(0, -hi))
    first, count = cut.start, len(cut)
    places = range(-max(lo, 0), count + max(hi, 0))
    if mode == "constant":
        found = [i if 0 <= i < count else None for i in places]
    elif mode == "edge":
        found = [min(max(i, 0), count - 1) for i in places]
    elif mode == "wrap":
        found = [i % count for i in places]
    else:
        period = max(2 * (count - 1), 1)
        found = [min(i % period, period - i % period) if count > 1 else 0 for i in places]
    return [-1 if i is None else i + first for i in found]


def _expand(call: Call) -> None:
    x = call.type(0)
    stated = call.ints(1, "shape") or []
    shape = tuple(map(int, np.broadcast_shapes(x.shape, tuple(stated))))
    if shape == x.shape:
        call.give_value(call.input(0))
    else:
        call.give(expanded(x, shape), [call.input(0)])


def _tile(call: Call) -> None:
    x = call.type(0)
    repeats = call.ints(1, "repeats") or []
    if len(repeats) != len(x.shape) or min(repeats, default=0) < 0:
        raise Error(f"repeats: {repeats}, expected {len(x.shape)}, none below 0")
    vectors = [None if r == 1 else [*range(size)] * r for r, size in zip(repeats, x.shape, strict=True)]
    call.give(indexed(x, vectors), [call.input(0)])


def _depth_to_space(call: Call) -> None:
    block, mode = int(call.attributes["blocksize"]), call.attributes.get("mode", "DCR")
    n, c, h, w = _image(call)
    if block < 1 or c % (block * block):
        raise Error(f"blocksize: {block}, expected its square to divide {c} channels")
    deep = c // (block * block)
    split = (n, block, block, deep, h, w) if mode == "DCR" else (n, deep, block, block, h, w)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    _moved(call, split, order, (n, deep, h * block, w * block))


def _space_to_depth(call: Call) -> None:
    block = int(call.attributes["blocksize"])
    n, c, h, w = _image(call)
    if block < 1 or h % block or w % block:
        raise Error(f"blocksize: {block}, expected it to divide {h} and {w}")
    split = (n, c, h // block, block, w // block, block)
    order = (0, 1, 3, 5, 2, 4) if call.attributes.get("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    _moved(call, split, order, (n, c * block * block, h // block, w // block))


def _image(call: Call) -> tuple[int, ...]:
    shape = call.type(0).shape
    if len(shape) != 4:
        raise Error(f"x: {call.type(0)}, expected 4 dims")
    return shape


def _moved(call: Call, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> None:
    """x in one shape, its dims in another order, in a third shape."""
    apart = call.reshape(call.input(0), split)
    mixed = call.between(permuted(call.editor.types[apart], order), [apart])
    call.give(reshaped(call.editor.types[mixed], shape), [mixed])


def _shape(call: Call) -> None:
    shape = call.type(0).shape
    start, end = call.attributes.get("start", 0), call.attributes.get("end", len(shape))
    call.give_constant(np.asarray(shape[start:end], np.int64))


def _size(call: Call) -> None:
    call.give_constant(np.asarray(call.type(0).size, np.int64))


def _constant_of_shape(call: Call) -> None:
    from tvmconv.onnx.reading.tensors import array_of

    shape = tuple(int(dim) for dim in call.constant(0, "shape").reshape(-1))
    value = array_of(call.attributes["value"]) if "value" in call.attributes else np.zeros(1, np.float32)
    if math.prod(shape) > 1 << 24 or min(shape, default=0) < 0 or not supported(value):
        raise Error(f"shape: {shape} of {name_of(value)}, expected at most {1 << 24} numbers")
    call.give_constant(np.full(shape, value.reshape(-1)[0]))


def _range(call: Call) -> None:
    names = ("start", "limit", "delta")
    start, limit, step = (call.constant(number, name).reshape(()) for number, name in enumerate(names))
    if step == 0 or abs((float(limit) - float(start)) / float(step)) > 1 << 24:
        raise Error(f"range: {start} to {limit} by {step}, expected at most {1 << 24} numbers")
    count = max(math.ceil((float(limit) - float(start)) / float(step)), 0)
    call.give_constant((start + np.arange(count) * step).astype(start.dtype))


IMPORTERS: dict[str, Importer] = {
    "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze,
    "Transpose": _transpose, "Concat": _concat, "Split": _split, "Slice": _slice,
    "Pad": _pad, "Expand": _expand, "Tile": _tile, "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Shape": _shape, "Size": _size, "ConstantOfShape": _constant_of_shape, "Range": _range,
}  # fmt: skip
