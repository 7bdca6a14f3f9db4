"""What all operators of networks have in common: types of what they take and give, a one-line text.

A text is ``kind:shapes:dtypes:option:option``: shapes and dtypes of the inputs joined by commas, a dtype once
where all are equal, "scalar" for a shape without dims: ``matmul:1x8x16,1x16x4:float32``.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tvmconv.base.dtypes import FLOATS, numpy_dtype, widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.work import Work

Array = np.ndarray[Any, Any]

INTEGERS = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")
DTYPES = (*FLOATS, *INTEGERS, "bool")
MOST_ELEMENTS = (1 << 31) - 1
MOST_DIMS = 16


class Type(NamedTuple):
    """Shape and element type of an array."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """How many elements it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes its elements take."""
        return self.size * numpy_dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{dims_text(self.shape)} {self.dtype}"


@dataclass(frozen=True)
class Operator(Work, ABC):
    """One operator on arrays of stated types: frozen, hashable, checked when it is made (SpecError).

    inputs: the types that it takes, in the order of `reference`'s arrays.
    """

    builder = "operators"
    kind: ClassVar[str]

    inputs: tuple[Type, ...]

    @abstractmethod
    def infer(self) -> tuple[Type, ...]:
        """The types of its results."""

    @property
    def effort(self) -> int:
        return sum(type_.size for type_ in self.infer())

    @property
    def macs(self) -> int:
        """Multiply-adds of one call, of layers and products."""
        return 0

    @abstractmethod
    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Its results on arrays that fit: floats in float64, integers in their own type."""

    @abstractmethod
    def options(self) -> tuple[str, ...]:
        """The tokens of its text that follow the inputs' types."""

    @classmethod
    @abstractmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Operator:
        """The operator of these tokens. Raises SpecError."""

    def reference(self, arrays: Sequence[Any]) -> tuple[Array, ...]:
        """Its results in float64, or in their own type for integers and flags, rounded nowhere between.

        ``arrays``: one an input, of its shape; floats of any float type. Raises SpecError for others.
        """
        given = [_plain(array) for array in arrays]
        if len(given) != len(self.inputs):
            raise SpecError(f"{self.kind}: {len(given)} arrays, expected {len(self.inputs)}")
        for number, (array, (shape, dtype)) in enumerate(zip(given, self.inputs, strict=True)):
            fits = array.dtype.kind == "f" if dtype in FLOATS else array.dtype == dtype
            if array.shape != shape or not fits:
                raise SpecError(
                    f"{self.kind}: array {number}: {dims_text(array.shape)} {array.dtype}, expected "
                    f"{Type(shape, dtype)}"
                )
        with np.errstate(all="ignore"):  # NaN and infinity are values like others
            return self.compute(given)

    def __str__(self) -> str:
        shapes = ",".join(dims_text(one.shape) for one in self.inputs)
        dtypes = [one.dtype for one in self.inputs]
        return ":".join([self.kind, shapes, *([] if not dtypes else [same_once(dtypes)]), *self.options()])

    def _check_types(self) -> None:
        """Raise SpecError for inputs that are not types of arrays."""
        for number, (shape, dtype) in enumerate(self.inputs):
            check_shape(f"{self.kind}: input {number}", shape)
            if dtype not in DTYPES:
                what = f"{self.kind}: input {number}: {dtype!r}"
                raise SpecError(f"{what}, expected one of {', '.join(DTYPES)}")

    def _check_count(self, *counts: int) -> None:
        if len(self.inputs) not in counts:
            wanted = " or ".join(map(str, counts))
            raise SpecError(f"{self.kind}: {len(self.inputs)} inputs, expected {wanted}")


def check_shape(what: str, shape: Sequence[int]) -> None:
    """Raise SpecError unless a shape has whole numbers and not too many elements."""
    if len(shape) > MOST_DIMS:
        raise SpecError(f"{what}: {len(shape)} dims, expected at most {MOST_DIMS}")
    if any(not isinstance(dim, int) or dim < 0 for dim in shape):
        raise SpecError(f"{what}: shape {tuple(shape)}, expected whole numbers, none below 0")
    if math.prod(shape) > MOST_ELEMENTS:
        raise SpecError(f"{what}: {math.prod(shape)} elements, expected at most {MOST_ELEMENTS}")


def float_type(kind: str, dtype: str) -> None:
    """Raise SpecError unless this is a floating-point type."""
    if dtype not in FLOATS:
        raise SpecError(f"{kind}: {dtype}, expected one of {', '.join(FLOATS)}")


def read_axes(kind: str, axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Axes counted from 0, in order, each once. Raises SpecError."""
    found = tuple(axis + rank if axis < 0 else axis for axis in axes)
    if any(not 0 <= axis < rank for axis in found) or len(set(found)) != len(found):
        raise SpecError(f"{kind}: axes {tuple(axes)}, expected different ones from {-rank} to {rank - 1}")
    return tuple(sorted(found))


def dims_text(shape: Sequence[int]) -> str:
    """1x3x224x224; "scalar" for no dims."""
    return "x".join(map(str, shape)) or "scalar"


def read_dims(text: str) -> tuple[int, ...]:
    """The reverse of `dims_text`. Raises SpecError."""
    parts = () if text == "scalar" else text.split("x")
    if not all(part.isascii() and part.isdigit() and len(part) < 13 for part in parts):
        raise SpecError(f"descriptor: {text!r}, expected a shape such as 1x8x8x3, or scalar")
    return tuple(map(int, parts))


def read_ints(text: str) -> tuple[int, ...]:
    """Whole numbers joined by commas, or "-" for none. Raises SpecError."""
    try:
        return () if text == "-" else tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SpecError(f"descriptor: {text!r}, expected whole numbers joined by commas") from None


def ints_text(values: Sequence[int]) -> str:
    """The reverse of `read_ints`."""
    return ",".join(map(str, values)) or "-"


def number_text(value: float) -> str:
    """A number's shortest text that reads back as the same."""
    value = float(value)
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)


def read_number(text: str) -> float:
    """The reverse of `number_text`. Raises SpecError."""
    try:
        return float(text)
    except ValueError:
        raise SpecError(f"descriptor: {text!r}, expected a number") from None


def same_once(words: Sequence[str]) -> str:
    """Words joined by commas; one word where all are the same."""
    return words[0] if len(set(words)) == 1 else ",".join(words)


def _plain(array: Any) -> Array:
    """An array whose floats are float64."""
    found = widened(np.asarray(array))
    return found.astype(np.float64) if found.dtype.kind == "f" else found
