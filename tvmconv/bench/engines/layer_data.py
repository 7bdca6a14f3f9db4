"""One layer as data: what the engines are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmconv.base.dtypes import rounded, widened
from tvmconv.specs.conv import ConvSpec, parse_activation
from tvmconv.specs.kinds import Spec
from tvmconv.specs.pooling import PoolSpec
from tvmconv.specs.reference import reference_of

F32 = np.float32
RELU = (0.0, float("inf"))
BYTES = ("int8", "uint8")
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
        names = ("x", "residual", "offset", "mask")
        return {name: self.arrays[name] for name in names if name in self.arrays}

    @property
    def out_dtype(self) -> str:
        """The type of the result."""
        return getattr(self.spec, "out_dtype", self.spec.dtype)

    @property
    def quantised(self) -> bool:
        """Whether it is a convolution of 8-bit integers."""
        return isinstance(self.spec, ConvSpec) and self.spec.dtype in BYTES

    @property
    def tolerance(self) -> float:
        """The largest error of a right result, over the largest expected value."""
        if self.out_dtype in BYTES:  # a result halfway between two
            return 1.01 / max(float(np.abs(self.expected).max(initial=0)), 1)
        return TOLERANCES[self.out_dtype]

    @property
    def activation(self) -> tuple[str, tuple[float, ...]] | None:
        """(name, parameters) of the activation; relu6 is a clip."""
        activation = getattr(self.spec, "activation", None)
        if activation is None:
            return None
        name, params = parse_activation(activation)
        return ("clip", (0.0, 6.0)) if name == "relu6" else (name, params)

    @property
    def clamp(self) -> tuple[float, float] | None:
        """Bounds of the activation, where that has to be one; None if there is none."""
        if self.activation is None:
            return None
        name, params = self.activation
        if name not in ("relu", "clip"):
            raise Unsupported(f"activation {name}")
        return RELU if name == "relu" else (params[0], params[1])

    def padded(self, keep: bool) -> tuple[Array, list[int]]:
        """x with the padding put in that an engine cannot express, and what is left per dimension.

        `keep` leaves the symmetric part of the padding to the engine; otherwise nothing is left."""
        spec, fill = self.spec, 0.0
        uneven = any(lo != hi for lo, hi in spec.padding)
        if getattr(spec, "transposed", False) and uneven:
            raise Unsupported("a crop that is not the same on both sides")
        if isinstance(spec, PoolSpec):
            if spec.operation == "avg" and (uneven or not keep) and any(map(any, spec.padding)):
                raise Unsupported("a mean that leaves out padding of this kind")
            fill = -np.inf if spec.dtype.startswith("float") else np.iinfo(spec.dtype).min
        elif self.quantised:
            fill = self.arrays["x_zero_point"].item()
        left = [min(pair) if keep else 0 for pair in spec.padding]
        extra = [(lo - n, hi - n) for (lo, hi), n in zip(spec.padding, left, strict=True)]
        if not any(map(any, extra)):
            return self.x, left
        return np.ascontiguousarray(np.pad(self.x, [(0, 0), (0, 0), *extra], constant_values=fill)), left


def comparable(spec: Spec) -> bool:
    """Whether engines can be given such a layer: none has slopes, a shuffle or borders other than zeros in
    its convolutions, and the 8-bit operators that they are given here are neither transposed nor sums with a
    residual."""
    integers = isinstance(spec, ConvSpec) and spec.dtype in BYTES
    if integers and (spec.transposed or spec.residual):
        return False
    if isinstance(spec, ConvSpec) and (spec.slopes or spec.shuffle != 1 or spec.padding_mode != "zeros"):
        return False
    return bool(spec.batch)


def example(spec: Spec) -> Layer:
    """Random data for a layer, outputs of about unit size, and the float64 result."""
    rng = np.random.default_rng(0)
    shapes = {"x": spec.input_shape, "w": getattr(spec, "weight_shape", None)}
    for name in ("bias", "residual", "slopes"):
        if getattr(spec, name, False):
            shapes[name] = spec.output_shape if name == "residual" else spec.bias_shape
    if hasattr(spec, "offset_shape"):
        shapes["offset"] = spec.offset_shape
        if spec.mask:
            shapes["mask"] = spec.mask_shape
    arrays = {name: rng.standard_normal(shape) for name, shape in shapes.items() if shape}
    if "w" in arrays:
        arrays["w"] /= (spec.macs / np.prod(spec.output_shape)) ** 0.5
    if isinstance(spec, ConvSpec) and spec.dtype in BYTES:
        arrays = _integers(spec, rng)
    else:
        arrays = {name: rounded(array, spec.dtype) for name, array in arrays.items()}
    wide = {name: widened(array) for name, array in arrays.items()}
    expected = first(reference_of(spec, wide)) if spec.channels_last else reference_of(spec, wide)
    if spec.channels_last:
        for name in ("x", "residual"):
            if name in arrays:
                arrays[name] = first(arrays[name])
        if "w" in arrays:
            arrays["w"] = np.moveaxis(arrays["w"], weight_axes(spec), (0, 1))
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return Layer(spec, arrays, np.ascontiguousarray(expected))


def _integers(spec: ConvSpec, rng: np.random.Generator) -> dict[str, Array]:
    """Weights of 7 bits: with 8, sums of uint8 by int8 saturate in other engines on CPUs without VNNI."""
    limits = np.iinfo(spec.dtype)
    low = 64 if spec.weight_dtype == "uint8" else -63
    arrays = {
        "x": rng.integers(limits.min, limits.max, spec.input_shape, spec.dtype, endpoint=True),
        "w": rng.integers(low, low + 126, spec.weight_shape, spec.weight_dtype),
    }
    zeros = {"x_zero_point": np.array([limits.min + 120], spec.dtype)}
    zeros["w_zero_point"] = np.full(spec.bias_shape, 0 if low < 0 else 127, spec.weight_dtype)
    if spec.bias:
        arrays["bias"] = rng.integers(-1000, 1000, spec.bias_shape, np.int32)
    if spec.out_dtype not in BYTES:
        return {**arrays, **zeros}
    terms = spec.macs / np.prod(spec.output_shape)
    scale = rng.uniform(0.01, 0.02, spec.bias_shape).astype(F32)
    return {
        **arrays, "x_scale": np.array([0.02], F32), "x_zero_point": zeros["x_zero_point"],
        "w_scale": scale, "w_zero_point": zeros["w_zero_point"],
        "y_scale": np.array([0.02 * 0.015 * terms**0.5 * 74 * 37 / 40], F32),
        "y_zero_point": np.array([np.iinfo(spec.out_dtype).min + 128], spec.out_dtype),
    }  # fmt: skip


def weight_axes(spec: Spec) -> tuple[int, int]:
    """Where the channels-last weights have what the channels-first ones begin with."""
    return (-2, -1) if getattr(spec, "transposed", False) else (-1, -2)


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
