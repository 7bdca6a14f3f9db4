"""One layer as data: what the engines are given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmconv.base.dtypes import BYTES, rounded, widened
from tvmconv.specs.activations import clamp_of, parse_activation
from tvmconv.specs.kinds import Spec
from tvmconv.specs.operand import Operand

F32 = np.float32
RELU = (0.0, float("inf"))
TOLERANCES = {"float32": 1e-4, "float64": 1e-10, "float16": 4e-3, "bfloat16": 3e-2, "int32": 0.0}
"""Of the largest output: float32 sums differ by a few 1e-6, Winograd's by a few 1e-5."""

Array = np.ndarray[Any, Any]


class Unsupported(Exception):
    """This engine, or this way of using it, cannot run the layer; the message says why."""


@dataclass(frozen=True)
class Layer:
    """One layer and its data, channels-first; `expected` is the float64 reference's output.

    arrays: by argument, of the spec's types. w is O I spatial, of a transposed convolution I O spatial."""

    spec: Spec
    arrays: dict[str, Array]
    expected: Array

    @property
    def x(self) -> Array:
        return self.arrays["x"]

    @property
    def w(self) -> Array:
        return self.arrays["w"]

    @property
    def bias(self) -> Array | None:
        return self.arrays.get("bias")

    @property
    def inputs(self) -> dict[str, Array]:
        """What changes from call to call, in the order of ours."""
        return {operand.name: self.arrays[operand.name] for operand in self.spec.inputs}

    @property
    def out_dtype(self) -> str:
        """The type of the result."""
        return self.spec.out_dtype

    @property
    def quantised(self) -> bool:
        """Whether its integers represent numbers by a scale and a zero point."""
        return "x_zero_point" in self.arrays

    @property
    def tolerance(self) -> float:
        """The largest error of a right result, over the largest expected value."""
        if self.out_dtype in BYTES:  # a result halfway between two
            return 1.01 / max(float(np.abs(self.expected).max(initial=0)), 1)
        return TOLERANCES[self.out_dtype]

    @property
    def activation(self) -> tuple[str, tuple[float, ...]] | None:
        """(name, parameters) of the activation; one that keeps to two bounds is a clip."""
        activation = self.spec.activation
        if activation is None:
            return None
        bounds = clamp_of(activation)
        if bounds is not None and all(map(math.isfinite, bounds)):
            return "clip", bounds
        return parse_activation(activation)

    @property
    def clamp(self) -> tuple[float, float] | None:
        """Bounds of the activation, where that has to be one; None if there is none."""
        if self.activation is None:
            return None
        bounds = clamp_of(self.spec.activation)
        if bounds is None:
            raise Unsupported(f"activation {self.activation[0]}")
        return bounds

    def padded(self, keep: bool) -> tuple[Array, list[int]]:
        """x with any padding applied that an engine cannot express, and the remaining padding per dimension.

        `keep` leaves the symmetric part of the padding to the engine; otherwise nothing is left."""
        spec = self.spec
        if spec.transposed and any(lo != hi for lo, hi in spec.padding):
            raise Unsupported("a crop that is not the same on both sides")
        left = [min(pair) if keep else 0 for pair in spec.padding]
        extra = [(lo - n, hi - n) for (lo, hi), n in zip(spec.padding, left, strict=True)]
        if not any(map(any, extra)):
            return self.x, left
        fill = self.arrays["x_zero_point"].item() if self.quantised else spec.fill
        if fill is None:
            raise Unsupported("a mean that leaves out padding of this kind")
        return np.ascontiguousarray(np.pad(self.x, [(0, 0), (0, 0), *extra], constant_values=fill)), left


def comparable(spec: Spec) -> bool:
    """Whether engines can be given such a layer."""
    return spec.is_operator and bool(spec.batch)


def example(spec: Spec) -> Layer:
    """Random data for a layer, outputs of about unit size, and the float64 result."""
    rng = np.random.default_rng(0)
    wanted = (*spec.inputs, *spec.weights)
    if any(operand.name == "x_zero_point" for operand in wanted):
        arrays = _integers(spec, rng)
    else:
        wide = {operand.name: rng.standard_normal(operand.shape) for operand in wanted}
        if "w" in wide:
            wide["w"] /= (spec.macs / np.prod(spec.output_shape)) ** 0.5
        arrays = {operand.name: rounded(wide[operand.name], operand.dtype) for operand in wanted}
    wide = {name: widened(array) for name, array in arrays.items()}
    expected = first(spec.reference(wide)) if spec.channels_last else spec.reference(wide)
    if spec.channels_last:
        for name in ("x", "residual"):
            if name in arrays:
                arrays[name] = first(arrays[name])
        if "w" in arrays:
            arrays["w"] = np.moveaxis(arrays["w"], weight_axes(spec), (0, 1))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return Layer(spec, arrays, np.ascontiguousarray(expected))


def _integers(spec: Spec, rng: np.random.Generator) -> dict[str, Array]:
    """Weights of 7 bits: with 8, sums of uint8 by int8 saturate in other engines on CPUs without VNNI."""
    terms = spec.macs / np.prod(spec.output_shape)
    made: dict[str, Callable[[Operand], Any]] = {
        "x": lambda o: rng.integers(np.iinfo(o.dtype).min, np.iinfo(o.dtype).max, o.shape, endpoint=True),
        "w": lambda o: rng.integers(*((64, 190) if o.dtype == "uint8" else (-63, 63)), o.shape),
        "bias": lambda o: rng.integers(-1000, 1000, o.shape),
        "x_scale": lambda o: np.full(o.shape, 0.02),
        "x_zero_point": lambda o: np.full(o.shape, np.iinfo(o.dtype).min + 120),
        "w_scale": lambda o: rng.uniform(0.01, 0.02, o.shape),
        "w_zero_point": lambda o: np.full(o.shape, 127 if o.dtype == "uint8" else 0),
        "y_scale": lambda o: np.full(o.shape, 0.02 * 0.015 * terms**0.5 * 74 * 37 / 40),
        "y_zero_point": lambda o: np.full(o.shape, np.iinfo(o.dtype).min + 128),
    }
    return {o.name: made[o.name](o).astype(o.dtype) for o in (*spec.inputs, *spec.weights)}


def weight_axes(spec: Spec) -> tuple[int, int]:
    """Where the channels-last weights have what the channels-first ones begin with."""
    return (-2, -1) if spec.transposed else (-1, -2)


def laid_out(spec: Spec, name: str, array: Array) -> Array:
    """A channels-first array of a layer in the spec's own layout, contiguous."""
    if spec.channels_last and name in ("x", "residual"):
        return last(array)
    if spec.channels_last and name == "w":
        return np.ascontiguousarray(np.moveaxis(array, (0, 1), weight_axes(spec)))
    return array


def last(a: Array) -> Array:
    """Channels-first to channels-last, contiguous."""
    return np.ascontiguousarray(np.moveaxis(a, 1, -1))


def first(a: Array) -> Array:
    """Channels-last to channels-first (a view)."""
    return np.moveaxis(a, -1, 1)
