"""matmul: the batched product of two values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import Array, Operator, Type, check_shape


@dataclass(frozen=True)
class MatMul(Operator):
    """``matmul:8x16x32,8x64x32:float32:tb``: a (..., M, K) times b (..., K, N), plus a bias if there is one.

    The dims before the last two broadcast. transpose_a, transpose_b: the last two dims of that input are
    swapped first. A third input is added to the product and broadcasts to it.
    """

    kind: ClassVar[str] = "matmul"

    transpose_a: bool = False
    transpose_b: bool = False

    def __post_init__(self) -> None:
        self._check_types()
        self._check_count(2, 3)
        if min(len(one.shape) for one in self.inputs[:2]) < 2:
            shapes = " and ".join(str(one) for one in self.inputs[:2])
            raise SpecError(f"matmul: {shapes}, expected 2 dims or more each")
        if len({one.dtype for one in self.inputs}) > 1 or self.inputs[0].dtype == "bool":
            shapes = ", ".join(str(one) for one in self.inputs)
            raise SpecError(f"matmul: {shapes}, expected numbers of one type")
        (_, inner), (other, _) = self._last()
        if inner != other:
            raise SpecError(f"matmul: {inner} columns of a and {other} rows of b, expected as many")
        try:
            shape = self.infer()[0].shape
        except ValueError:
            shapes = ", ".join(str(one) for one in self.inputs[:2])
            raise SpecError(f"matmul: {shapes}, expected dims before the last two that broadcast") from None
        check_shape("matmul: result", shape)
        if len(self.inputs) == 3:
            bias = self.inputs[2].shape
            try:
                fits = np.broadcast_shapes(bias, shape) == shape
            except ValueError:
                fits = False
            if not fits:
                raise SpecError(f"matmul: bias {bias}, expected to broadcast to {shape}")

    def _last(self) -> list[tuple[int, int]]:
        """(rows, columns) of a and b as they are multiplied."""
        swaps = (self.transpose_a, self.transpose_b)
        return [
            (one.shape[-1], one.shape[-2]) if swap else one.shape[-2:]
            for one, swap in zip(self.inputs, swaps, strict=False)
        ]

    @property
    def macs(self) -> int:
        return self.infer()[0].size * self._last()[0][1]

    def infer(self) -> tuple[Type, ...]:
        a, b = self.inputs[:2]
        batch = tuple(map(int, np.broadcast_shapes(a.shape[:-2], b.shape[:-2])))
        (rows, _), (_, columns) = self._last()
        return (Type((*batch, rows, columns), a.dtype),)

    def takes_pitch(self) -> frozenset[str]:
        return frozenset({"x0", "x1", "y"})

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        a, b, *bias = arrays
        a = np.swapaxes(a, -1, -2) if self.transpose_a else a
        y = np.matmul(a, np.swapaxes(b, -1, -2) if self.transpose_b else b)
        return (y + bias[0] if bias else y,)

    def options(self) -> tuple[str, ...]:
        return (*(["ta"] if self.transpose_a else []), *(["tb"] if self.transpose_b else []))

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> MatMul:
        if set(options) - {"ta", "tb"}:
            raise SpecError(f"matmul: {':'.join(options)!r}, expected ta, tb or neither")
        return cls(inputs, "ta" in options, "tb" in options)
