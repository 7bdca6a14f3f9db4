"""resize: every axis of an array sampled anew, by a table of taps for each, as ONNX's Resize has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.operators.base import (
    Array,
    Operator,
    Type,
    check_shape,
    dims_text,
    float_type,
    number_text,
    read_dims,
    read_number,
)  # fmt: skip

MODES = ("nearest", "linear", "cubic")
COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
    "tf_crop_and_resize", "tf_half_pixel_for_nn",
)  # fmt: skip
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
MOST_TAPS = 1 << 24


@dataclass(frozen=True)
class Resize(Operator):
    """``resize:1x8x8x3:float32:1x16x16x3:linear:half_pixel:s1,2,2,1``.

    scales: how many times longer each axis becomes (a size is a scale's floor, or was rounded from it).
    rounding: of "nearest". cubic: its coefficient a. exclude_outside: weights beyond the border are 0 and the
    others sum to 1; otherwise the border's element stands there. antialias: on shrinking, the filter grows
    with 1/scale. roi, extrapolation: of "tf_crop_and_resize": (start, end) an axis, in parts of it, and the
    value of what lies outside of x.
    """

    kind: ClassVar[str] = "resize"

    shape: tuple[int, ...]
    mode: str
    coordinates: str
    scales: tuple[float, ...]
    rounding: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    roi: tuple[float, ...] = ()
    extrapolation: float = 0.0

    def __post_init__(self) -> None:
        self._check_types()
        self._check_count(1)
        shape, dtype = self.inputs[0]
        check_shape("resize: result", self.shape)
        for name, value, allowed in (
            ("mode", self.mode, MODES), ("coordinates", self.coordinates, COORDINATES),
            ("rounding", self.rounding, ROUNDINGS),
        ):  # fmt: skip
            if value not in allowed:
                raise SpecError(f"resize: {name} {value!r}, expected one of {', '.join(allowed)}")
        if self.mode != "nearest":
            float_type(f"resize: {self.mode}", dtype)
        if len(self.shape) != len(shape) or len(self.scales) != len(shape):
            what = f"{dims_text(self.shape)} and {len(self.scales)} scales"
            raise SpecError(f"resize: {what}, expected those of each dim of {self.inputs[0]}")
        if not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise SpecError(f"resize: scales {self.scales}, expected finite ones above 0")
        if any(old == 0 and new for old, new in zip(shape, self.shape, strict=True)):
            what = f"{self.inputs[0]} to {dims_text(self.shape)}"
            raise SpecError(f"resize: {what}: there is nothing to sample")
        cropped = self.coordinates == "tf_crop_and_resize"
        if len(self.roi) != (2 * len(shape) if cropped else 0):
            raise SpecError(f"resize: roi of {len(self.roi)} numbers, expected {2 * len(shape) * cropped}")
        if self.antialias and self.mode == "nearest":
            raise SpecError("resize: antialias, expected only for linear and cubic")
        taps = max((self._reach(axis) * size for axis, size in enumerate(self.shape)), default=0)
        if taps > MOST_TAPS:
            raise SpecError(f"resize: {taps} taps of an axis, expected at most {MOST_TAPS}")

    def infer(self) -> tuple[Type, ...]:
        return (Type(self.shape, self.inputs[0].dtype),)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that are not simply copied."""
        return tuple(axis for axis in range(len(self.shape)) if not self._is_plain(axis))

    def taps(self, axis: int) -> tuple[Array, Array, Array]:
        """(indices, weights, inside) of an axis: element i of the result is the sum over k of
        weights[i, k] * x[indices[i, k]], or ``extrapolation`` where ``inside[i]`` is False."""
        return _table(self, axis)

    def takes_pitch(self) -> frozenset[str]:
        kept = bool(self.axes) and max(self.axes) == len(self.shape) - 2  # rows are copied as they are
        return frozenset({"x0", "y"} if kept and self.coordinates != "tf_crop_and_resize" else ())

    def compute(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        (x,) = arrays
        outside = np.zeros(self.shape, bool)
        for axis in self.axes:
            indices, weights, inside = self.taps(axis)
            moved = np.moveaxis(x, axis, -1)
            if self.mode == "nearest":
                moved = moved[..., indices[:, 0]]
            else:
                moved = (moved[..., indices] * weights).sum(-1)
            x = np.moveaxis(moved, -1, axis)
            outside |= ~inside.reshape(-1, *(1,) * (len(self.shape) - 1 - axis))
        return (np.where(outside, np.array(self.extrapolation).astype(x.dtype), x),)

    def _is_plain(self, axis: int) -> bool:
        same = self.shape[axis] == self.inputs[0].shape[axis] and self.scales[axis] == 1
        return same and (not self.roi or (self.roi[axis], self.roi[axis + len(self.shape)]) == (0, 1))

    def _reach(self, axis: int) -> int:
        """How many taps an element has."""
        if self.mode == "nearest":
            return 1
        around = 1 if self.mode == "linear" else 2
        scale = self.scales[axis]
        return 2 * math.ceil(around / scale if self.antialias and scale < 1 else around)

    def options(self) -> tuple[str, ...]:
        words = [dims_text(self.shape), self.mode, self.coordinates,
                 "s" + ",".join(map(number_text, self.scales))]  # fmt: skip
        words += [self.rounding] * (self.mode == "nearest")
        words += [f"a{number_text(self.cubic)}"] * (self.mode == "cubic")
        words += ["exclude"] * self.exclude_outside + ["antialias"] * self.antialias
        if self.roi:
            words += ["r" + ",".join(map(number_text, self.roi)), f"x{number_text(self.extrapolation)}"]
        return tuple(words)

    @classmethod
    def from_options(cls, inputs: tuple[Type, ...], options: Sequence[str]) -> Resize:
        shape, mode, coordinates, *rest = options
        found: dict[str, Any] = {}
        for word in rest:
            numbers = word[1:].split(",")
            if word in ROUNDINGS:
                found["rounding"] = word
            elif word in ("exclude", "antialias"):
                found["exclude_outside" if word == "exclude" else word] = True
            elif word[:1] in ("s", "r"):
                found["scales" if word[0] == "s" else "roi"] = tuple(map(read_number, numbers))
            elif word[:1] in ("a", "x"):
                found["cubic" if word[0] == "a" else "extrapolation"] = read_number(word[1:])
            else:
                raise SpecError(f"resize: {word!r}, expected s, r, a, x with numbers, a rounding, exclude or "
                                "antialias")  # fmt: skip
        if "scales" not in found:
            raise SpecError("resize: no scales, expected s with a number for each dim")
        return cls(inputs, read_dims(shape), mode, coordinates, **found)


@lru_cache(maxsize=256)
def _table(op: Resize, axis: int) -> tuple[Array, Array, Array]:
    size, wanted, scale = op.inputs[0].shape[axis], op.shape[axis], op.scales[axis]
    places = _places(op, axis, size, wanted, scale)
    # A place beyond the border is the border's own, but for extrapolation.
    inside = np.ones(wanted, bool)
    if op.coordinates == "tf_crop_and_resize":
        inside = (places >= 0) & (places <= size - 1)
    if op.mode == "nearest":
        rounded = {
            "round_prefer_floor": np.ceil(places - 0.5), "round_prefer_ceil": np.floor(places + 0.5),
            "floor": np.floor(places), "ceil": np.ceil(places),
        }[op.rounding]  # fmt: skip
        indices = np.clip(rounded, 0, size - 1).astype(np.int64)[:, None]
        return indices, np.ones((wanted, 1)), inside
    reach = op._reach(axis)
    base = np.floor(places).astype(np.int64)
    ratio = places - base
    offsets = np.arange(reach) - reach // 2 + 1
    indices = base[:, None] + offsets
    stretch = min(scale, 1.0) if op.antialias else 1.0
    weights = _filter(op, (offsets - ratio[:, None]) * stretch)
    if op.antialias:
        weights = weights / weights.sum(1, keepdims=True)
    if op.exclude_outside:
        weights = np.where((indices >= 0) & (indices < size), weights, 0.0)
        weights = weights / weights.sum(1, keepdims=True)
    return np.clip(indices, 0, size - 1), weights, inside


def _filter(op: Resize, distance: Array) -> Array:
    d, a = np.abs(distance), op.cubic
    if op.mode == "linear":
        return np.maximum(1 - d, 0)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0.0))


def _places(op: Resize, axis: int, size: int, wanted: int, scale: float) -> Array:
    """Where in x each element of the result lies. The nearest is found in float32, in onnxruntime's steps:
    where a place is at an element, or half-way between two, their rounding decides."""
    real: Any = np.float32 if op.mode == "nearest" else np.float64
    i, scale, kind = np.arange(wanted, dtype=real), real(scale), op.coordinates
    if kind == "align_corners":
        # The spacing is of the exact length, size * scale, which its floor is not.
        long = size * scale
        return i * real(size - 1) / real(long - 1) if wanted > 1 and long != 1 else np.zeros(wanted)
    if kind == "asymmetric":
        return i / scale
    if kind == "tf_crop_and_resize":
        start, end = op.roi[axis], op.roi[axis + len(op.shape)]
        if wanted > 1:
            return start * (size - 1) + i * (end - start) * (size - 1) / (wanted - 1)
        return np.full(wanted, 0.5 * (start + end) * (size - 1))
    if kind == "tf_half_pixel_for_nn":
        return (i + real(0.5)) / scale
    if kind == "pytorch_half_pixel" and wanted == 1:
        return np.zeros(wanted)
    middle = (i + real(0.5)) / scale
    if kind == "half_pixel_symmetric":
        middle = real(size / 2) * (1 - real(wanted) / (scale * real(size))) + middle
    return middle - real(0.5)
