"""ConvSpec: everything that defines a convolution, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tvmconv.base.dtypes import FLOATS, ITEMSIZE
from tvmconv.base.errors import SpecError
from tvmconv.base.messages import unknown
from tvmconv.specs import checks
from tvmconv.specs import padding as paddings
from tvmconv.specs.activations import canonical_activation
from tvmconv.specs.grammar import Grammar
from tvmconv.specs.names import ALGORITHMS, DTYPES, OUT_DTYPES, PADDING_MODES
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.quantised import SUMS, check_integer, quantisation
from tvmconv.specs.spec import Spec
from tvmconv.specs.tokens import LAYOUT, PADDING, WEIGHTS, Activations, Count, Flag, Name, Sizes, Types
from tvmconv.specs.window import Ints, Padding, WindowSpec


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

    family: ClassVar[str] = "conv"
    grammar: ClassVar[Grammar] = Grammar(
        kinds=("conv", "tconv"),
        example="conv2d:1x8x8x3:o4:k3x3:NHWC",
        tokens=(
            Count("out_channels", "o"), Sizes("kernel", "k", each=True), Sizes("stride", "s", 1), PADDING,
            Name("padding_mode", PADDING_MODES, "a padding mode", silent="zeros"), Sizes("dilation", "d", 1),
            Count("groups", "g", 1), Sizes("output_padding", "op", 0), LAYOUT, Types("dtype", out=True),
            WEIGHTS, Flag("bias", "bias"), Flag("residual", "residual"), Activations("activation"),
            Count("shuffle", "sh", 1), Name("algorithm", ALGORITHMS, "an algorithm"),
        ),
        needed=("out_channels", "kernel"),
    )  # fmt: skip

    out_channels: int
    groups: int
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
        shape = checks.read_shape(input_shape)
        rank = len(shape) - 2

        self._store("input_shape", shape)
        self._store("out_channels", checks.read_integer("out_channels", out_channels, 1))
        self._read_window(kernel, stride, dilation)
        self._store("groups", checks.read_integer("groups", groups, 1))
        self._store("layout", checks.read_layout(layout, rank))
        self._store("dtype", checks.read_dtype("dtype", dtype, DTYPES))
        out_dtype = self.dtype if out_dtype is None else out_dtype
        self._store("out_dtype", checks.read_dtype("out_dtype", out_dtype, OUT_DTYPES))
        self._store("weight_dtype", checks.read_weight_dtype(self.dtype, weight_dtype))
        self._store("transposed", checks.read_flag("transposed", transposed))
        self._store("output_padding", checks.read_per_dim("output_padding", output_padding, rank, 0))
        self._store("bias", checks.read_flag("bias", bias))
        self._store("residual", checks.read_flag("residual", residual))
        self._store("activation", canonical_activation(activation))
        self._store("shuffle", checks.read_integer("shuffle", shuffle, 1))

        checks.check_shape(shape)
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels % self.groups:
                raise SpecError(f"groups: {self.groups}, expected a divisor of {name} {channels}")
        if self.out_channels % self.shuffle:
            raise SpecError(f"shuffle: {shuffle}, expected a divisor of out_channels {out_channels}")
        if self.shuffle == self.out_channels:  # groups of one channel stay where they are
            self._store("shuffle", 1)
        paddings.check_output_padding(self, self.output_padding)
        if self.transposed:
            resolved, grown = paddings.transposed_padding(self, self.output_padding, padding)
            self._store("output_padding", grown)
        else:
            resolved = paddings.window_padding(self, padding)
        self._store("padding", resolved)
        if padding_mode not in PADDING_MODES:
            raise unknown("padding_mode", padding_mode, PADDING_MODES)
        paddings.check_padding_mode(self, padding_mode)
        padded = any(lo or hi for lo, hi in resolved)
        self._store("padding_mode", padding_mode if padded else "zeros")  # one spec for equivalent arguments
        self._store("algorithm", checks.read_algorithm(self, algorithm, self.groups))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> ConvSpec:
        """The spec that a descriptor states: ``ConvSpec.parse(str(spec)) == spec``. Raises SpecError."""
        kind, found = cls.grammar.read(text)
        return cls(transposed=kind == "tconv", **found)

    def __str__(self) -> str:
        return self.grammar.write(self, "tconv" if self.transposed else "conv")

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
            given += quantisation(self, self.weight_dtype, self.residual)
        return (*given, Operand("y", self.output_shape, self.out_dtype, self.layout, "output"))

    @property
    def is_scaled(self) -> bool:
        """Whether integer sums are scaled to ``out_dtype``."""
        return self.is_integer and self.out_dtype != SUMS

    def _out_dim(self, dim: int) -> int:
        if not self.transposed:
            return WindowSpec._out_dim(self, dim)
        grown = (self.in_spatial[dim] - 1) * self.stride[dim] + self.output_padding[dim]
        return grown + self.extent(dim) - sum(self.padding[dim])

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
        """The axes of ``weight_shape``, in the letters of 2-D weights at every rank."""
        return "HWIO" if self.channels_last else "IOHW" if self.transposed else "OIHW"

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias and of PReLU's slopes, whether the spec has them or not."""
        return (self.out_channels,)

    @property
    def slopes(self) -> bool:
        """Whether the activation takes slopes, an array of ``bias_shape``, as PReLU does."""
        return self.act is not None and self.act.slopes

    @property
    def multiplier(self) -> int:
        """Output channels per group: the depth multiplier of a depthwise convolution."""
        return self.out_channels // self.groups

    @property
    def macs(self) -> int:
        """Multiply-adds of one call, those on padding included."""
        if self.transposed:
            return math.prod(self.input_shape) * self.multiplier * self.taps
        return math.prod(self.output_shape) * (self.in_channels // self.groups) * self.taps

    @property
    def terms(self) -> int:
        """Products in a sum; for a transposed convolution, ignoring stride."""
        return self.taps * self.in_channels // self.groups

    @property
    def bytes(self) -> int:
        """Bytes that one call must move at least: each array that it reads or writes, once."""
        read = math.prod(self.input_shape) + math.prod(self.weight_shape)
        of_outputs = math.prod(self.output_shape) * (1 + self.residual)
        of_outputs += self.out_channels * (self.bias + self.slopes)
        return read * ITEMSIZE[self.dtype] + of_outputs * ITEMSIZE[self.out_dtype]

    @property
    def kind(self) -> str:
        """One of depthwise, grouped, pointwise, dense."""
        if self.groups > 1:
            return "depthwise" if self.groups == self.in_channels else "grouped"
        return "pointwise" if set(self.kernel) == {1} else "dense"

    @property
    def is_operator(self) -> bool:
        """Other engines' convolutions have no slopes, shuffle or borders other than zeros; their 8-bit ones
        are neither transposed nor have a residual."""
        if self.is_integer and (self.transposed or self.residual):
            return False
        return not self.slopes and self.shuffle == 1 and self.padding_mode == "zeros"

    def twins(self) -> tuple[Spec, ...]:
        """The spec once x has its borders, if they are not zeros; without residual and activation; and
        without the bias as well."""
        zeros = without_borders(self)
        plain = replace(zeros, residual=False, activation=None)
        found = (zeros, plain, replace(plain, bias=False))
        return tuple(twin for twin in dict.fromkeys(found) if twin != self)

    def size_text(self, dim: int) -> str:
        if not self.transposed:
            return WindowSpec.size_text(self, dim)
        (lo, hi), extra = self.padding[dim], self.output_padding[dim]
        grown = f"{self.stride[dim]}*({self.in_spatial[dim]} - 1) + {extra}"
        return f"{grown} + {self._extent_text(dim)} - {lo} - {hi} = {self.out_spatial[dim]}"

    def check_supported(self) -> None:
        if self.is_integer:
            check_integer(self)
        elif self.out_dtype not in FLOATS:
            raise SpecError(f"out_dtype: {self.out_dtype!r} in {self}, expected a float type as dtype is")


def without_borders(spec: ConvSpec) -> ConvSpec:
    """The convolution that remains of ``spec`` once x has its borders: for a ``padding_mode`` other than
    zeros, one of the padded x, without padding. Other specs are unchanged."""
    if spec.padding_mode == "zeros":
        return spec
    spatial = [size + lo + hi for size, (lo, hi) in zip(spec.in_spatial, spec.padding, strict=True)]
    channels = spec.in_channels
    shape = (spec.batch, *spatial, channels) if spec.channels_last else (spec.batch, channels, *spatial)
    return replace(spec, input_shape=shape, padding=((0, 0),) * len(spatial), padding_mode="zeros")


def _check_sizes(spec: ConvSpec) -> None:
    padded = spec.in_spatial
    if spec.transposed:
        paddings.check_crop(spec)
    else:
        spec._check_window()
        padded = tuple(map(sum, zip(spec.in_spatial, map(sum, spec.padding), strict=True)))
    images = max(spec.batch, 1)
    checks.check_elements(
        input_with_its_padding=images * spec.in_channels * math.prod(padded),
        weight=math.prod(spec.weight_shape),
        output=images * spec.out_channels * math.prod(spec.out_spatial),
    )
