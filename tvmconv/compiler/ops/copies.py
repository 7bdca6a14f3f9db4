"""How a copy of x with the zeros around it lies in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvmconv.compiler.ops.problem import Problem, join, split


@dataclass(frozen=True)
class Copy:
    """As ``p``'s x does, ``reach`` positions per dimension."""

    p: Problem
    reach: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.p.x_shape(self.reach)

    def parts(self, at: Sequence) -> tuple:
        """(batch, group, channel of it, padded place) of an index."""
        return split(self.p, at)

    def index(self, n: Any, g: Any, c: Any, place: Sequence) -> tuple:
        """The index of those."""
        return join(self.p, n, g, c, place)


@dataclass(frozen=True)
class SortedRows(Copy):
    """Channels-first, with the elements of a row sorted by their place within the stride: (batch, groups,
    in_group, *outer dims, phase, place in strides). ``reach`` is whole strides of the last dimension."""

    @property
    def shape(self) -> tuple[int, ...]:
        *outer, last = super().shape
        return (*outer, self._stride, last // self._stride)

    def parts(self, at: Sequence) -> tuple:
        """See ``Copy``."""
        *outer, phase, column = at
        return super().parts((*outer, column * self._stride + phase))

    def index(self, n: Any, g: Any, c: Any, place: Sequence) -> tuple:
        """See ``Copy``."""
        *rows, column = place
        return (n, g, c, *rows, column % self._stride, column // self._stride)

    @property
    def _stride(self) -> int:
        return self.p.stride[-1]
