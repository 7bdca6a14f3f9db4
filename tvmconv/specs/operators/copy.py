"""copy: a result made of pieces of its inputs, as they are: permuted, sliced, joined, padded, repeated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import (
    Array,
    Operator,
    Type,
    check_shape,
    dims_text,
    number_text,
    read_dims,
    read_number,
)  # fmt: skip
from tvmconv.specs.operators.expression import cast
from tvmconv.specs.operators.piece import Piece

MOST_PIECES = 4096
_KEEP = "keep"  # the text of a fill of None


@dataclass(frozen=True)
class Copy(Operator):
    """``copy:1x3x16:float32:1x16x3:a[0;1,16][0;3,1][16x3]``: the result's shape, then its pieces.

    pieces: no two write the same element (not checked: `overlaps` does). What none writes is ``fill``; where
    that is None, what was there before (in the reference 0).
    """

    kind: ClassVar[str] = "copy"

    shape: tuple[int, ...]
    pieces: tuple[Piece, ...]
    fill: float | None = 0.0

    def __post_init__(self) -> None:
        self._check_types()
        check_shape("copy: result", self.shape)
        if len({one.dtype for one in self.inputs}) != 1:
            raise SpecError(f"copy: {', '.join(map(str, self.inputs)) or 'no inputs'}, expected one type")
        pieces = tuple(sorted((piece for piece in self.pieces if piece.count), key=lambda piece: piece.to))
        object.__setattr__(self, "pieces", pieces)
        object.__setattr__(self, "fill", 0.0 if self.is_full else self.fill)
        if len(pieces) > MOST_PIECES:
            raise SpecError(f"copy: {len(pieces)} pieces, expected at most {MOST_PIECES}")
        for piece in pieces:
            if piece.source >= len(self.inputs):
                raise SpecError(f"copy: piece {piece}: expected an input among the first {len(self.inputs)}")
            for start, steps, type_ in (
                (piece.start, piece.steps, self.inputs[piece.source]),
                (piece.to, piece.to_steps, self.infer()[0]),
            ):
                reach = [(size - 1) * step for size, step in zip(piece.sizes, steps, strict=True)]
                low, high = start + sum(min(r, 0) for r in reach), start + sum(max(r, 0) for r in reach)
                if low < 0 or high >= type_.size:
                    raise SpecError(f"copy: piece {piece} reaches elements {low} to {high} of {type_}")
            if any(step < 1 for step in piece.to_steps):
                raise SpecError(f"copy: piece {piece} writes an element twice")

    @property
    def is_full(self) -> bool:
        """Whether its pieces write every element."""
        return sum(piece.count for piece in self.pieces) == math.prod(self.shape)

    @property
    def is_reshape(self) -> bool:
        """Whether its result is its one input, element for element."""
        size = self.inputs[0].size
        whole = Piece.of(0, 0, (1,), 0, (1,), (size,))
        return len(self.inputs) == 1 and size == math.prod(self.shape) and self.pieces in ((whole,), ())

    def takes_pitch(self) -> frozenset[str]:
        names = [f"x{number}" for number in range(len(self.inputs))]
        sides = {name: (one, False) for name, one in zip(names, self.inputs, strict=True)}
        if self.is_full or self.fill is None:  # the filling would go over what lies between rows
            sides["y"] = (self.infer()[0], True)
        return frozenset(name for name, side in sides.items() if self._may_be_apart(name, *side))

    def _may_be_apart(self, name: str, type_: Type, written: bool) -> bool:
        width = type_.shape[-1] if type_.shape else 1
        mine = [piece for piece in self.pieces if written or name == f"x{piece.source}"]
        return width > 0 and all(piece.apart(width, width + 1, written) is not None for piece in mine)

    def writes(self) -> Array:
        """Which elements of its flat result it sets."""
        written = np.full(math.prod(self.shape), self.fill is not None)
        for piece in self.pieces:
            piece.view(written, written=True)[...] = True
        return written

    def overlaps(self) -> bool:
        """Whether an element is written twice."""
        written = np.zeros(math.prod(self.shape), np.int8)
        for piece in self.pieces:
            view = piece.view(written, written=True)
            view += 1
        return sum(piece.count for piece in self.pieces) != int(written.sum()) or bool((written > 1).any())

    def infer(self) -> tuple[Type, ...]:
        return (Type(self.shape, self.inputs[0].dtype),)

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        kind, dtype = arrays[0].dtype, self.inputs[0].dtype
        fill = cast(np.array(self.fill or 0.0, np.float64), dtype)
        y = np.full(math.prod(self.shape), fill, kind)
        for piece in self.pieces:
            flat = np.ascontiguousarray(arrays[piece.source]).reshape(-1)
            piece.view(y, written=True)[...] = piece.view(flat)
        return (y.reshape(self.shape),)

    def options(self) -> tuple[str, ...]:
        filling = (_KEEP,) if self.fill is None else () if self.fill == 0 else (f"f{number_text(self.fill)}",)
        return (dims_text(self.shape), *filling, *map(str, self.pieces))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Copy:
        shape, *rest = options
        fill: float | None = 0.0
        if rest[:1] == [_KEEP]:
            fill = None
            del rest[0]
        elif rest and rest[0].startswith("f") and "[" not in rest[0]:
            fill = read_number(rest.pop(0)[1:])
        return cls(inputs, read_dims(shape), tuple(map(Piece.parse, rest)), fill)


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """How far apart neighbours along each dim are in a flat array of this shape."""
    return tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))


def reshaped(x: Type, shape: Sequence[int]) -> Copy:
    """The same elements in another shape. Raises SpecError where they are not as many."""
    if math.prod(shape) != x.size:
        raise SpecError(f"reshape of {x} to {dims_text(shape)}: expected as many elements")
    return Copy((x,), tuple(shape), (Piece.of(0, 0, (1,), 0, (1,), (x.size,)),))


def permuted(x: Type, order: Sequence[int]) -> Copy:
    """Dims in another order: dim i of the result is dim order[i] of x. Raises SpecError."""
    if sorted(order) != list(range(len(x.shape))):
        raise SpecError(f"permutation {tuple(order)}, expected each of the {len(x.shape)} dims once")
    shape, apart = tuple(x.shape[dim] for dim in order), strides(x.shape)
    piece = Piece.of(0, 0, [apart[dim] for dim in order], 0, strides(shape), shape)
    return Copy((x,), shape, (piece,))


def expanded(x: Type, shape: Sequence[int]) -> Copy:
    """x broadcast to a shape. Raises SpecError where it does not."""
    wide = (1,) * (len(shape) - len(x.shape)) + x.shape
    if len(wide) != len(shape) or any(a not in (1, b) for a, b in zip(wide, shape, strict=True)):
        raise SpecError(f"expansion of {x} to {dims_text(shape)}, expected a shape that it broadcasts to")
    steps = [0 if size == 1 else step for size, step in zip(wide, strides(wide), strict=True)]
    return Copy((x,), tuple(shape), (Piece.of(0, 0, steps, 0, strides(shape), shape),))


def joined(types: Sequence[Type], axis: int) -> Copy:
    """Arrays one after the other along an axis. Raises SpecError for shapes that differ in others."""
    first, at, pieces = types[0].shape, 0, []
    for one in types:
        others = [size for dim, size in enumerate(one.shape) if dim != axis]
        if len(one.shape) != len(first) or others != [s for d, s in enumerate(first) if d != axis]:
            shapes = ", ".join(map(str, types))
            raise SpecError(f"concatenation of {shapes} along axis {axis}, expected equal other dims")
    shape = tuple(sum(t.shape[axis] for t in types) if d == axis else size for d, size in enumerate(first))
    for number, one in enumerate(types):
        to = at * strides(shape)[axis]
        pieces.append(Piece.of(number, 0, strides(one.shape), to, strides(shape), one.shape))
        at += one.shape[axis]
    return Copy(tuple(types), shape, tuple(pieces))


def indexed(x: Type, vectors: Sequence[Sequence[int] | None], fill: float = 0.0) -> Copy:
    """The elements of x at the product of an index vector for each axis (None: all of it); an index of -1
    stands for ``fill``. Raises SpecError for indices beyond x, and where the runs are too many."""
    runs = []
    for axis, vector in enumerate(vectors):
        size = x.shape[axis]
        if vector is not None and len(vector) and not -1 <= min(vector) <= max(vector) < size:
            raise SpecError(f"indices from {min(vector)} to {max(vector)}, expected 0 to {size - 1}")
        runs.append([(0, (size,), (1,), 0, (1,))] if vector is None else _runs(list(vector)))
    if math.prod(map(len, runs)) > MOST_PIECES:
        raise SpecError(f"{math.prod(map(len, runs))} runs of indices, expected at most {MOST_PIECES}")
    shape = tuple(x.shape[axis] if v is None else len(v) for axis, v in enumerate(vectors))
    apart, to_apart = strides(x.shape), strides(shape)
    pieces: list[tuple[int, list[int], int, list[int], list[int]]] = [(0, [], 0, [], [])]
    for axis, of_axis in enumerate(runs):
        pieces = [
            (start + first * apart[axis], [*steps, *(step * apart[axis] for step in more)],
             to + at * to_apart[axis], [*to_steps, *(step * to_apart[axis] for step in to_more)],
             [*sizes, *counts])
            for start, steps, to, to_steps, sizes in pieces
            for first, counts, more, at, to_more in of_axis
        ]  # fmt: skip
    return Copy((x,), shape, tuple(Piece.of(0, *piece) for piece in pieces), fill)


def _runs(vector: list[int]) -> list[tuple[int, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]]:
    """(first, counts, steps, place, steps of the place): the vector as nests of at most two loops."""
    runs: list[tuple[int, int, int, int]] = []  # first, count, step, place
    at = 0
    while at < len(vector):
        first, end = vector[at], at + 1
        step = vector[end] - first if end < len(vector) and vector[end] >= 0 else 0
        while first >= 0 and end < len(vector) and vector[end] >= 0 and vector[end] - vector[end - 1] == step:
            end += 1
        if first >= 0:
            runs.append((first, end - at, step if end - at > 1 else 0, at))
        at = end
    found: list[tuple[int, tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]] = []
    at = 0
    while at < len(runs):
        first, count, step, place = runs[at]
        end = at + 1
        apart = runs[end][0] - first if end < len(runs) else 0
        while end < len(runs) and runs[end] == (
            first + (end - at) * apart, count, step, place + (end - at) * count
        ):  # fmt: skip
            end += 1
        found.append((first, (end - at, count), (apart if end - at > 1 else 0, step), place, (count, 1)))
        at = end
    return found
