"""reduce: sums, means, extremes and norms over axes, and where an extreme is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import (
    DTYPES,
    Array,
    Operator,
    Type,
    float_type,
    ints_text,
    read_axes,
    read_ints,
)  # fmt: skip

OPERATIONS = ("sum", "mean", "max", "min", "prod", "l1", "l2", "argmax", "argmin")


@dataclass(frozen=True)
class Reduce(Operator):
    """``reduce:1x7x7x64:float32:mean:1,2:keep``.

    axes: those that are reduced, canonical (sorted, from 0); for argmax and argmin one. keepdims: whether
    they stay, of size 1. last: argmax and argmin take the last of equal ones. argmax, argmin give int64, the
    others the input's type; integers wrap, and a mean of them is cut towards zero.
    Of no elements a sum is 0, a product 1, max and min the least and the largest of the type.
    """

    kind: ClassVar[str] = "reduce"

    operation: str
    axes: tuple[int, ...]
    keepdims: bool = True
    last: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        self._check_count(1)
        if self.operation not in OPERATIONS:
            raise SpecError(f"reduce: {self.operation!r}, expected one of {', '.join(OPERATIONS)}")
        object.__setattr__(self, "axes", read_axes("reduce", self.axes, len(self.inputs[0].shape)))
        arg = self.operation.startswith("arg")
        if arg and len(self.axes) != 1:
            raise SpecError(f"reduce: axes {self.axes}, expected one for {self.operation}")
        if arg and not self.inputs[0].shape[self.axes[0]]:
            raise SpecError(f"reduce: {self.operation} of no elements")
        if self.last and not arg:
            raise SpecError(f"reduce: last, expected only for argmax and argmin, not {self.operation}")
        if self.operation == "l2":
            float_type("reduce: l2", self.inputs[0].dtype)
        if self.inputs[0].dtype == "bool" and self.operation not in ("max", "min"):
            raise SpecError(f"reduce: {self.operation} of bool, expected one of {', '.join(DTYPES[:-1])}")

    def infer(self) -> tuple[Type, ...]:
        shape, dtype = self.inputs[0]
        kept = (1,) if self.keepdims else ()
        dims = [kept if axis in self.axes else (size,) for axis, size in enumerate(shape)]
        return (Type(sum(dims, ()), "int64" if self.operation.startswith("arg") else dtype),)

    def takes_pitch(self) -> frozenset[str]:
        return frozenset({"x0", "y"})

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        (x,) = arrays
        kept = {"axis": self.axes, "keepdims": self.keepdims}
        name, dtype = self.operation, x.dtype
        if name in ("argmax", "argmin"):
            (axis,) = self.axes
            values = np.flip(x, axis) if self.last else x
            found = getattr(np, name)(values, axis=axis, keepdims=self.keepdims)
            return (np.asarray(x.shape[axis] - 1 - found if self.last else found, np.int64),)
        if name == "mean":
            total, count = np.sum(x, dtype=dtype, **kept), np.prod([x.shape[axis] for axis in self.axes])
            y = total / count if dtype.kind == "f" else np.trunc(total / count)
        elif name in ("max", "min"):
            y = getattr(np, name)(x, initial=self._empty(name), **kept)
        elif name == "l1":
            y = np.sum(np.abs(x), dtype=dtype, **kept)
        elif name == "l2":
            y = np.sqrt(np.sum(x * x, **kept))
        else:
            y = getattr(np, name)(x, dtype=dtype, **kept)
        return (np.asarray(y).astype(dtype),)

    def _empty(self, name: str) -> float | int | bool:
        dtype = self.inputs[0].dtype
        if dtype in FLOATS:
            return -np.inf if name == "max" else np.inf
        if dtype == "bool":
            return name == "min"
        limits = np.iinfo(dtype)
        return int(limits.min if name == "max" else limits.max)

    def options(self) -> tuple[str, ...]:
        words = [self.operation, ints_text(self.axes)]
        return (*words, *(["keep"] if self.keepdims else []), *(["last"] if self.last else []))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Reduce:
        operation, axes, *flags = options
        if set(flags) - {"keep", "last"}:
            raise SpecError(f"reduce: {':'.join(flags)!r}, expected keep, last or neither")
        return cls(inputs, operation, read_ints(axes), "keep" in flags, "last" in flags)
