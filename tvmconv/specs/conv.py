"""ConvSpec: everything that a convolution is, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tvmconv.base.dtypes import BYTES, ITEMSIZE
from tvmconv.base.errors import SpecError
from tvmconv.specs.checks import (
    MOST_ELEMENTS,
    check_padding_mode,
    forward_padding,
    read_algorithm,
    read_dtype,
    read_flag,
    read_integer,
    read_layout,
    read_per_dim,
    read_shape,
    read_weight_dtype,
    transposed_padding,
)
from tvmconv.specs.descriptor import (
    ACTIVATIONS,
    DTYPES,
    OUT_DTYPES,
    PADDING_MODES,
    canonical_activation,
    format_spec,
    parse_activation,
    parse_descriptor,
    unknown,
)
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.quantised import quantisation
from tvmconv.specs.window import WindowSpec

__all__ = ["ACTIVATIONS", "ConvSpec", "depthwise", "parse_activation", "pointwise"]

Ints = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class ConvSpec(WindowSpec):
    """A convolution: shapes, strides, padding, dilation, groups, layout, dtype, epilogue.

    Frozen and hashable; equal convolutions are equal specs with one ``str``. What is stored is
    canonical: per-dim tuples, padding as ``((lo, hi), ...)``, layout "NCHW" or "NHWC" at every rank.

    ``input_shape``: (N, C, *spatial) or (N, *spatial, C), 1 to 3 spatial dims; N may be 0.
    ``kernel``, ``stride``, ``dilation``, ``output_padding``: an int, or one per spatial dim.
    ``padding``: "SAME" (as TensorFlow), "VALID", "FULL", an int, one int or (lo, hi) per spatial dim.
    ``padding_mode``: what is there, by torch's names: "zeros", "reflect" (x mirrored at its outermost
    elements, each border narrower than x), "replicate" (the nearest element), "circular" (x again; no border
    wider than x). It costs a copy of x; not for transposed convolutions, nor on GPUs.
    ``layout``: NCHW or NHWC at any rank, or the rank's own name (NCW, NWC, NCDHW, NDHWC).
    ``out_dtype``: None for ``dtype``; for 8-bit x, int32 gives the sums, an 8-bit type quantises them.
    ``weight_dtype``: that of x; beside 8-bit x int8 (None) or uint8.
    ``bias``, then ``residual`` (an array of the output's shape and type) are added,
    then ``activation`` is applied: "relu", "clip=0,6", ("clip", 0, 6), "prelu" (slopes per channel), ...
    A result of 8 bits is quantise(activation(real sums + bias + r_scale * (residual - r_zero_point))); where
    the activation only clamps, exactly this, in float32: sums * (x_scale * w_scale / y_scale), rounded, plus
    (residual - r_zero_point) * (r_scale / y_scale), rounded; the total, rounded, is clamped, then rounded to
    the nearest integer (halfway to even), shifted by y_zero_point and kept within the type.
    ``transposed``: out = (in-1)*stride - lo - hi + dilation*(kernel-1) + output_padding + 1, and
    SAME gives in*stride. ``algorithm``: "direct", "im2col" or "winograd"; None for the fastest that fits.
    ``shuffle``: output channels are shuffled as `channel_shuffle` in so many groups would; bias and slopes
    are in the order of the weights, before the shuffle, residual and result in that after it.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    input_shape: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    layout: str
    dtype: str
    out_dtype: str
    weight_dtype: str
    transposed: bool
    output_padding: tuple[int, ...]
    bias: bool
    residual: bool
    activation: str | None
    algorithm: str | None
    shuffle: int
    padding_mode: str

    def __init__(
        self,
        input_shape: Sequence[int],
        out_channels: int,
        kernel: Ints,
        *,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        groups: int = 1,
        layout: str = "NCHW",
        dtype: Any = "float32",
        out_dtype: Any = None,
        weight_dtype: Any = None,
        transposed: bool = False,
        output_padding: Ints = 0,
        bias: bool = False,
        residual: bool = False,
        activation: str | tuple[Any, ...] | None = None,
        algorithm: str | None = None,
        shuffle: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        shape = read_shape(input_shape)
        rank = len(shape) - 2

        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # the class is frozen

        store("input_shape", shape)
        store("out_channels", read_integer("out_channels", out_channels, 1))
        store("kernel", read_per_dim("kernel", kernel, rank, 1))
        store("stride", read_per_dim("stride", stride, rank, 1))
        store("dilation", read_per_dim("dilation", dilation, rank, 1))
        store("groups", read_integer("groups", groups, 1))
        store("layout", read_layout(layout, rank))
        store("dtype", read_dtype("dtype", dtype, DTYPES))
        out_dtype = self.dtype if out_dtype is None else out_dtype
        store("out_dtype", read_dtype("out_dtype", out_dtype, OUT_DTYPES))
        store("weight_dtype", read_weight_dtype(self.dtype, weight_dtype))
        store("transposed", read_flag("transposed", transposed))
        store("output_padding", read_per_dim("output_padding", output_padding, rank, 0))
        store("bias", read_flag("bias", bias))
        store("residual", read_flag("residual", residual))
        store("activation", canonical_activation(activation))
        store("shuffle", read_integer("shuffle", shuffle, 1))

        for dim, size in enumerate(shape):
            if size == 0 and dim != 0:
                raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise SpecError(f"groups: {self.groups}, expected a divisor of {name} {channels}")
        if self.out_channels % self.shuffle:
            found = f"{self.shuffle}, expected a divisor of out_channels {self.out_channels}"
            raise SpecError(f"shuffle: {found}")
        if self.shuffle == self.out_channels:  # groups of one channel stay where they are
            store("shuffle", 1)
        for extra, stride_, dilation_ in zip(self.output_padding, self.stride, self.dilation, strict=True):
            if extra and not self.transposed:
                raise SpecError(f"output_padding: {self.output_padding}, expected 0 unless transposed")
            if extra and extra >= max(stride_, dilation_):
                raise SpecError(
                    f"output_padding: {self.output_padding}, expected less than the larger of "
                    f"stride {self.stride} and dilation {self.dilation}"
                )
        resolve = transposed_padding if self.transposed else forward_padding
        resolved, grown = resolve(self, padding)
        store("padding", resolved)
        store("output_padding", grown)
        if padding_mode not in PADDING_MODES:
            raise unknown("padding_mode", padding_mode, PADDING_MODES)
        check_padding_mode(self, padding_mode)
        padded = any(lo or hi for lo, hi in resolved)
        store("padding_mode", padding_mode if padded else "zeros")  # one spec for what makes no difference
        store("algorithm", read_algorithm(self, algorithm))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> ConvSpec:
        """The spec that a descriptor states: ``ConvSpec.parse(str(spec)) == spec``. Raises SpecError."""
        return cls(**parse_descriptor(text))

    def __str__(self) -> str:
        return format_spec(self)

    def signature(self) -> Signature:
        """x; w and bias; residual; slopes, or scales and zero points; the result."""
        learnt = "int32" if self.is_integer else self.dtype
        given = [
            Operand("x", self.input_shape, self.dtype, self.layout),
            Operand("w", self.weight_shape, self.weight_dtype, self.weight_layout, "weight"),
        ]
        if self.bias:
            given.append(Operand("bias", self.bias_shape, learnt, "O", "weight"))
        if self.residual:
            given.append(Operand("residual", self.output_shape, self.out_dtype, self.layout))
        if self.slopes:
            given.append(Operand("slopes", self.bias_shape, learnt, "O", "weight"))
        if self.is_integer:
            given += quantisation(self)
        return (*given, Operand("y", self.output_shape, self.out_dtype, self.layout, "output"))

    @property
    def is_integer(self) -> bool:
        """Whether it multiplies 8-bit integers."""
        return self.dtype in BYTES

    @property
    def is_scaled(self) -> bool:
        """Whether sums of integers are scaled to ``out_dtype``."""
        return self.is_integer and self.out_dtype != "int32"

    def _out_dim(self, dim: int) -> int:
        size, (lo, hi), stride = self.in_spatial[dim], self.padding[dim], self.stride[dim]
        reach = self.dilation[dim] * (self.kernel[dim] - 1)
        if self.transposed:
            return (size - 1) * stride - lo - hi + reach + self.output_padding[dim] + 1
        return (size + lo + hi - reach - 1) // stride + 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """OIHW channels-first, HWIO channels-last; transposed (in, out/groups, *k), (*k, in, out/groups)."""
        if self.transposed:
            pair = (self.in_channels, self.multiplier)
        elif self.channels_last:
            pair = (self.in_channels // self.groups, self.out_channels)
        else:
            pair = (self.out_channels, self.in_channels // self.groups)
        return (*self.kernel, *pair) if self.channels_last else (*pair, *self.kernel)

    @property
    def weight_layout(self) -> str:
        """The axes of ``weight_shape``, by the letters that 2-D weights have at every rank."""
        return "HWIO" if self.channels_last else "IOHW" if self.transposed else "OIHW"

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias and of PReLU's slopes, whether the spec has them or not."""
        return (self.out_channels,)

    @property
    def slopes(self) -> bool:
        """Whether the activation takes slopes, an array of ``bias_shape``: that of PReLU does."""
        return self.activation == "prelu"

    @property
    def multiplier(self) -> int:
        """Output channels a group: the depth multiplier of a depthwise convolution."""
        return self.out_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-adds of one call, those on padding included."""
        taps = math.prod(self.kernel)
        if self.transposed:
            return math.prod(self.input_shape) * self.multiplier * taps
        return math.prod(self.output_shape) * (self.in_channels // self.groups) * taps

    @property
    def flops(self) -> int:
        """Floating-point operations of one call: two a multiply-add, epilogue not counted."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Bytes that one call must move at least: each array that it reads or writes, once."""
        read = math.prod(self.input_shape) + math.prod(self.weight_shape)
        of_outputs = math.prod(self.output_shape) * (1 + self.residual)
        of_outputs += self.out_channels * (self.bias + self.slopes)
        return read * ITEMSIZE[self.dtype] + of_outputs * ITEMSIZE[self.out_dtype]

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: flops per byte."""
        return self.flops / self.bytes

    @property
    def kind(self) -> str:
        """One of depthwise, grouped, pointwise, dense."""
        if self.groups > 1:
            return "depthwise" if self.groups == self.in_channels else "grouped"
        return "pointwise" if set(self.kernel) == {1} else "dense"

    @property
    def is_dilated(self) -> bool:
        """Whether any dilation is over 1."""
        return max(self.dilation) > 1


def without_borders(spec: ConvSpec) -> ConvSpec:
    """The convolution that is left of ``spec`` once x has its borders: of a ``padding_mode`` other than zeros
    one of the padded x, without padding. Other specs are their own."""
    if spec.padding_mode == "zeros":
        return spec
    spatial = [size + lo + hi for size, (lo, hi) in zip(spec.in_spatial, spec.padding, strict=True)]
    channels = spec.in_channels
    shape = (spec.batch, *spatial, channels) if spec.channels_last else (spec.batch, channels, *spatial)
    return replace(spec, input_shape=shape, padding=0, padding_mode="zeros")


def depthwise(input_shape: Sequence[int], kernel: Ints, *, multiplier: int = 1, **options: Any) -> ConvSpec:
    """The spec of a depthwise convolution: one group a channel, ``multiplier`` results each.

    ``options`` are ConvSpec's. Output channel = channel * multiplier + m. Raises SpecError.
    """
    shape = read_shape(input_shape)
    channels = shape[-1 if read_layout(options.get("layout", "NCHW"), len(shape) - 2) == "NHWC" else 1]
    out_channels = channels * read_integer("multiplier", multiplier, 1)
    if channels == 0:
        raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")
    return ConvSpec(shape, out_channels, kernel, groups=channels, **options)


def pointwise(input_shape: Sequence[int], out_channels: int, **options: Any) -> ConvSpec:
    """The spec of a convolution whose kernel is one element; ``options`` are ConvSpec's. Raises SpecError."""
    return ConvSpec(input_shape, out_channels, 1, **options)


def _check_sizes(spec: ConvSpec) -> None:
    for dim in range(spec.rank):
        size, (lo, hi) = spec.in_spatial[dim], spec.padding[dim]
        reach = spec.dilation[dim] * (spec.kernel[dim] - 1) + 1
        if spec.transposed and spec.out_spatial[dim] < 1:
            raise SpecError(
                f"padding: {spec.padding}, expected to leave something of the result's "
                f"{spec.out_spatial[dim] + lo + hi} elements in spatial dim {dim}"
            )
        if not spec.transposed and reach > size + lo + hi:
            dilated = f" dilated by {spec.dilation[dim]}" if spec.dilation[dim] > 1 else ""
            raise SpecError(
                f"kernel: {spec.kernel[dim]}{dilated} in spatial dim {dim}, expected at most "
                f"the padded input's {size + lo + hi}"
            )
    padded = spec.in_spatial
    if not spec.transposed:
        padded = tuple(size + lo + hi for size, (lo, hi) in zip(padded, spec.padding, strict=True))
    images = max(spec.batch, 1)
    for name, elements in (
        ("input with its padding", images * spec.in_channels * math.prod(padded)),
        ("weight", math.prod(spec.weight_shape)),
        ("output", images * spec.out_channels * math.prod(spec.out_spatial)),
    ):
        if elements > MOST_ELEMENTS:
            raise SpecError(f"{name}: {elements} elements, expected at most {MOST_ELEMENTS} (32-bit indices)")
