"""Pieces of copies: nests of loops over elements of an input and of the result."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import Array, dims_text, read_dims
from tvmconv.specs.operators.expression import name_of_input, parse

_PIECE = re.compile(r"([a-z]\d*)\[(\d+);([-\d,]*)\]\[(\d+);([-\d,]*)\]\[(\w+)\]")


@dataclass(frozen=True)
class Piece:
    """A nest of loops over ``sizes`` in which element ``to + sum(i * to_steps)`` of the flat result becomes
    element ``start + sum(i * steps)`` of the flat input ``source``.

    Canonical: no loop of one iteration, loops in order of falling to_steps, loops that are one joined.
    """

    source: int
    start: int
    steps: tuple[int, ...]
    to: int
    to_steps: tuple[int, ...]
    sizes: tuple[int, ...]

    @staticmethod
    def of(source: int, start: int, steps: Sequence[int], to: int, to_steps: Sequence[int],
           sizes: Sequence[int]) -> Piece:  # fmt: skip
        """The canonical piece of these loops, of which those with negative ``to_steps`` run backwards."""
        loops = []
        for size, step, to_step in zip(sizes, steps, to_steps, strict=True):
            if to_step < 0 and size:
                start, to = start + (size - 1) * step, to + (size - 1) * to_step
                step, to_step = -step, -to_step
            if size != 1:
                loops.append((int(to_step), int(step), int(size)))
        loops.sort(key=lambda loop: -loop[0])
        joined: list[tuple[int, int, int]] = []
        for to_step, step, size in loops:
            if joined and joined[-1][:2] == (to_step * size, step * size):
                joined[-1] = (to_step, step, size * joined[-1][2])
            else:
                joined.append((to_step, step, size))
        by_part = [tuple(loop[part] for loop in joined) for part in range(3)]
        return Piece(source, int(start), by_part[1], int(to), by_part[0], by_part[2])

    @property
    def count(self) -> int:
        """How many elements it has."""
        return math.prod(self.sizes)

    def view(self, array: Array, *, written: bool = False) -> Array:
        """Its elements in the flat input, or in the flat result (written)."""
        start, steps = (self.to, self.to_steps) if written else (self.start, self.steps)
        item = array.itemsize
        at = array[start:] if self.count else array[:0]
        in_bytes = [step * item for step in steps]
        return np.lib.stride_tricks.as_strided(at, self.sizes, in_bytes, writeable=written)

    def apart(self, width: int, pitch: int, written: bool) -> Piece | None:
        """The same piece where rows of ``width`` elements of the input, or of the result (written), begin
        every ``pitch`` elements; None where a loop goes from one row into the next."""
        start, steps = (self.to, self.to_steps) if written else (self.start, self.steps)
        row, column = divmod(start, width)
        low = high = column  # the columns that it reaches
        found: list[tuple[int, int, int]] = []
        others = self.steps if written else self.to_steps
        for step, other, size in zip(steps, others, self.sizes, strict=True):
            count = width // math.gcd(width, abs(step))  # steps after which it is in the same column
            if 1 < count < size and size % count == 0:
                found.append((step * count // width * pitch, other * count, size // count))
                size = count
            down, along = divmod(abs(step), width)
            sign = -1 if step < 0 else 1
            low, high = low + min(sign * along, 0) * (size - 1), high + max(sign * along, 0) * (size - 1)
            found.append((sign * (down * pitch + along), other, size))
        if low < 0 or high >= width:
            return None
        start = row * pitch + column
        mine, theirs, sizes = (tuple(part) for part in zip(*found, strict=True)) if found else ((), (), ())
        if written:
            return Piece.of(self.source, self.start, theirs, start, mine, sizes)
        return Piece.of(self.source, start, mine, self.to, theirs, sizes)

    def __str__(self) -> str:
        def loops(start: int, steps: Sequence[int]) -> str:
            return f"[{start};{','.join(map(str, steps))}]"

        read, written = loops(self.start, self.steps), loops(self.to, self.to_steps)
        return f"{name_of_input(self.source)}{read}{written}[{dims_text(self.sizes)}]"

    @classmethod
    def parse(cls, text: str) -> Piece:
        """The reverse of ``str``. Raises SpecError."""
        found = _PIECE.fullmatch(text)
        try:
            name, start, steps, to, to_steps, sizes = found.groups()  # type: ignore[union-attr]
            by_loop = [tuple(int(n) for n in part.split(",")) if part else () for part in (steps, to_steps)]
            return cls.of(parse(name)[1], int(start), by_loop[0], int(to), by_loop[1], read_dims(sizes))
        except (AttributeError, ValueError):
            raise SpecError(f"copy: {text!r}, expected a piece such as a[0;1,16][0;3,1][16x3]") from None
