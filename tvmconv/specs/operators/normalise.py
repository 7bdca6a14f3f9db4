"""normalise: softmax, log-softmax, (x - mean) / deviation over axes, and LRN's windows of channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import (
    Array,
    Operator,
    Type,
    float_type,
    ints_text,
    number_text,
    read_axes,
    read_ints,
    read_number,
)  # fmt: skip

METHODS = ("softmax", "log_softmax", "standard", "rms", "lrn")


@dataclass(frozen=True)
class Normalise(Operator):
    """``normalise:1x8x64,64:float32:standard:2:e1e-05``: x, then scale and shift if there are any.

    axes: over which sums, means and maxima go. "standard": (x - mean) / sqrt(variance + epsilon); "rms":
    x / sqrt(mean of squares + epsilon). Then times ``scale`` plus ``shift``, inputs that broadcast to x
    (scale first; shift only with a scale). "lrn": x / (bias + alpha / size * sum of squares)**beta, over a
    window of ``size`` elements of its one axis, (size - 1) // 2 of them before x, those outside being 0.
    """

    kind: ClassVar[str] = "normalise"

    method: str
    axes: tuple[int, ...]
    epsilon: float = 0.0
    size: int = 0
    alpha: float = 0.0
    beta: float = 0.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        self._check_types()
        if self.method not in METHODS:
            raise SpecError(f"normalise: {self.method!r}, expected one of {', '.join(METHODS)}")
        scaled = self.method in ("standard", "rms")
        self._check_count(*((1, 2, 3) if scaled else (1,)))
        shape, dtype = self.inputs[0]
        for one in self.inputs:
            float_type("normalise", one.dtype)
        object.__setattr__(self, "axes", read_axes("normalise", self.axes, len(shape)))
        if not self.axes:
            raise SpecError("normalise: no axes, expected at least one")
        for name, (other, of_type) in zip(("scale", "shift"), self.inputs[1:], strict=False):
            fits = len(other) <= len(shape) and all(
                a in (1, b) for a, b in zip(other[::-1], shape[::-1], strict=False)
            )
            if not fits or of_type != dtype:
                what = Type(other, of_type)
                raise SpecError(f"normalise: {name}: {what}, expected to fit {self.inputs[0]}")
        if self.method == "lrn" and (self.size < 1 or len(self.axes) != 1):
            raise SpecError(f"normalise: lrn over {self.size} of axes {self.axes}, expected 1 or more of one")
        if not np.isfinite(self.epsilon) or self.epsilon < 0 or (self.epsilon and not scaled):
            raise SpecError(f"normalise: epsilon {self.epsilon}, expected a finite one, with standard or rms")

    def infer(self) -> tuple[Type, ...]:
        return (self.inputs[0],)

    def takes_pitch(self) -> frozenset[str]:
        across = self.method == "lrn" and self.axes != (len(self.inputs[0].shape) - 1,)
        return frozenset(() if across else {"x0", "y"})

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        x, *affine = arrays
        if self.method == "lrn":
            return (x / (self.bias + self.alpha / self.size * self._windows(x * x)) ** self.beta,)
        if self.method in ("softmax", "log_softmax"):
            apart = x - x.max(self.axes, keepdims=True, initial=-np.inf)
            total = np.exp(apart).sum(self.axes, keepdims=True)
            return (np.exp(apart) / total if self.method == "softmax" else apart - np.log(total),)
        apart = x - x.mean(self.axes, keepdims=True) if self.method == "standard" else x
        y = apart / np.sqrt((apart * apart).mean(self.axes, keepdims=True) + self.epsilon)
        for apply, array in zip((np.multiply, np.add), affine, strict=False):
            y = apply(y, array)
        return (y,)

    def _windows(self, squares: Array) -> Array:
        (axis,) = self.axes
        before = (self.size - 1) // 2
        wide = np.moveaxis(squares, axis, 0)
        sums = np.zeros_like(wide)
        for shift in range(-before, self.size - before):
            lo, hi = max(0, -shift), min(len(wide), len(wide) - shift)
            if lo < hi:
                sums[lo:hi] += wide[lo + shift : hi + shift]
        return np.moveaxis(sums, 0, axis)

    def options(self) -> tuple[str, ...]:
        words = [self.method, ints_text(self.axes)]
        if self.method in ("standard", "rms"):
            words.append(f"e{number_text(self.epsilon)}")
        if self.method == "lrn":
            words += [str(self.size), *map(number_text, (self.alpha, self.beta, self.bias))]
        return tuple(words)

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Normalise:
        method, axes, *rest = options
        over = read_ints(axes)
        if method == "lrn":
            size, alpha, beta, bias = rest
            return cls(inputs, method, over, 0.0, *read_ints(size), *map(read_number, (alpha, beta, bias)))
        epsilon = 0.0
        for word in rest:
            epsilon = read_number(word.removeprefix("e"))
        return cls(inputs, method, over, epsilon)
