"""gather and scatter: elements at places that the network computes, read or written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import Array, Operator, Type, read_axes

REDUCTIONS = {"none": None, "add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


@dataclass(frozen=True)
class _Indexing(Operator):
    """Inputs x, and indices (int64 or int32) along ``axis`` of x. Those below 0 count from the end; what is
    beyond either end is taken for the element there: memory outside x is never touched."""

    axis: int

    def _check(self, *counts: int) -> None:
        self._check_types()
        self._check_count(*counts)
        x, indices = self.inputs[:2]
        if indices.dtype not in ("int64", "int32"):
            raise SpecError(f"{self.kind}: indices {indices}, expected int64 or int32")
        object.__setattr__(self, "axis", read_axes(self.kind, [self.axis], len(x.shape))[0])
        if not x.shape[self.axis] and indices.size:
            raise SpecError(f"{self.kind}: indices {indices} of an axis without elements")

    def _check_beside(self) -> None:
        """Raise SpecError unless indices have x's dims, and off the axis no more elements than x."""
        x, indices = (one.shape for one in self.inputs[:2])
        if len(x) != len(indices) or any(
            few > many for axis, (few, many) in enumerate(zip(indices, x, strict=True)) if axis != self.axis
        ):
            raise SpecError(f"{self.kind}: indices {self.inputs[1]}, expected as many dims as x "
                            f"{self.inputs[0]}, and none larger but that of axis {self.axis}")  # fmt: skip

    def _places(self, indices: Array) -> Array:
        size = self.inputs[0].shape[self.axis]
        return np.clip(np.where(indices < 0, indices + size, indices), 0, max(size - 1, 0))

    def _beside(self, indices: Array) -> tuple[Array, ...]:
        """Where in x each index of as many dims points."""
        grid = list(np.indices(indices.shape, sparse=True))
        grid[self.axis] = self._places(indices)
        return tuple(grid)


@dataclass(frozen=True)
class Gather(_Indexing):
    """``gather:5x4,3:float32,int64:0``: slices of x at the indices, whose dims come in the axis's place.

    elements: indices have as many dims as x, and each result is the element of x at its own place but along
    the axis, where it is at the index.
    """

    kind: ClassVar[str] = "gather"

    elements: bool = False

    def __post_init__(self) -> None:
        self._check(2)
        if self.elements:
            self._check_beside()

    def infer(self) -> tuple[Type, ...]:
        x, indices = self.inputs
        around = x.shape[: self.axis], x.shape[self.axis + 1 :]
        shape = indices.shape if self.elements else (*around[0], *indices.shape, *around[1])
        return (Type(shape, x.dtype),)

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        x, indices = arrays
        if self.elements:
            return (np.array(x[self._beside(indices)]),)
        return (np.take(x, self._places(indices), axis=self.axis),)

    def options(self) -> tuple[str, ...]:
        return (str(self.axis), *(["elements"] if self.elements else []))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Gather:
        axis, *flags = options
        if flags not in ([], ["elements"]):
            raise SpecError(f"gather: {':'.join(flags)!r}, expected elements or nothing")
        return cls(inputs, int(axis), bool(flags))


@dataclass(frozen=True)
class Scatter(_Indexing):
    """``scatter:5x4,3x4,3x4:float32,int64,float32:0:add``: x with the elements of a third input put, or by
    ``reduction`` joined to what is there, at the indices along the axis, otherwise at their own places.

    Inputs: x, indices and updates of one shape. reduction: none, add, mul, max or min. Of several at one
    place the last one counts (none), or all, in their order.
    """

    kind: ClassVar[str] = "scatter"

    reduction: str = "none"

    def __post_init__(self) -> None:
        self._check(3)
        self._check_beside()
        x, indices, updates = self.inputs
        if updates != Type(indices.shape, x.dtype):
            raise SpecError(f"scatter: updates {updates}, expected {Type(indices.shape, x.dtype)}")
        if self.reduction not in REDUCTIONS:
            raise SpecError(f"scatter: {self.reduction!r}, expected one of {', '.join(REDUCTIONS)}")
        if x.dtype == "bool" and self.reduction != "none":
            raise SpecError(f"scatter: {self.reduction} of bool, expected numbers, or none")

    def infer(self) -> tuple[Type, ...]:
        return (self.inputs[0],)

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        x, indices, updates = arrays
        y, join = np.array(x), REDUCTIONS[self.reduction]
        for at in range(indices.shape[self.axis]):  # in order: of the same place the last one counts
            part = (slice(None),) * self.axis + (slice(at, at + 1),)
            where = self._beside(indices[part])
            y[where] = updates[part] if join is None else join(y[where], updates[part])
        return (y,)

    def options(self) -> tuple[str, ...]:
        return (str(self.axis), self.reduction)

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Scatter:
        axis, reduction = options
        return cls(inputs, int(axis), reduction)
