"""DeformSpec: everything that a deformable convolution is, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.base.errors import SpecError
from tvmconv.specs import grammar
from tvmconv.specs.checks import (
    MOST_ELEMENTS,
    read_dtype,
    read_flag,
    read_integer,
    read_layout,
    read_per_dim,
    read_shape,
    window_padding,
)
from tvmconv.specs.conv import Ints, Padding
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.window import WindowSpec

DTYPES = ("float32",)
BORDER = 3  # rows and columns of zeros that kernels put around the image: 2 before, 1 after

_GRAMMAR = grammar.Grammar(
    kinds=("deform",),
    example="deform2d:1x64x28x28:o64:k3x3:p1:mask:bias:NCHW:float32",
    ranks=(2,),
    dims={"k": "kernel", "s": "stride", "d": "dilation"},
    counts={"o": "out_channels", "g": "groups", "og": "offset_groups"},
    flags={"mask": "mask", "bias": "bias"},
    needed=("out_channels", "kernel"),
)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class DeformSpec(WindowSpec):
    """A deformable convolution, v1, or v2 with ``mask``: ONNX's DeformConv, torchvision's deform_conv2d.

    Each tap of the kernel reads x at its place plus an offset of its own, by bilinear interpolation among
    four pixels; pixels outside of the image are 0, and a place that is 1 or more outside gives 0.

    Frozen and hashable. ``input_shape``: (N, C, H, W); N may be 0. ``kernel``, ``stride``, ``padding``,
    ``dilation``, ``groups``: as a ConvSpec's. ``offset_groups``: the channels of x are divided into so many
    groups with offsets (and masks) of their own. ``layout``: NCHW only. ``dtype``: float32 only.

    Arrays: x; weights w (out, in/groups, kh, kw); offset (N, offset_groups*kh*kw*2, OH, OW), for every tap
    its vertical part, then its horizontal one; mask (N, offset_groups*kh*kw, OH, OW); bias (out,).
    An offset that is NaN makes NaN; no offset makes a kernel read outside of x.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    input_shape: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int
    offset_groups: int
    mask: bool
    bias: bool
    layout: str
    dtype: str

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
        offset_groups: int = 1,
        mask: bool = False,
        bias: bool = False,
        layout: str = "NCHW",
        dtype: Any = "float32",
    ) -> None:
        shape = read_shape(input_shape)
        if len(shape) != 4:
            raise SpecError(f"input_shape: {shape}, expected 4 dims: deformable convolution is 2-D only")

        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # the class is frozen

        store("input_shape", shape)
        store("out_channels", read_integer("out_channels", out_channels, 1))
        store("kernel", read_per_dim("kernel", kernel, 2, 1))
        store("stride", read_per_dim("stride", stride, 2, 1))
        store("dilation", read_per_dim("dilation", dilation, 2, 1))
        store("groups", read_integer("groups", groups, 1))
        store("offset_groups", read_integer("offset_groups", offset_groups, 1))
        store("mask", read_flag("mask", mask))
        store("bias", read_flag("bias", bias))
        store("layout", read_layout(layout, 2))
        store("dtype", read_dtype("dtype", dtype, DTYPES))
        if self.layout != "NCHW":
            raise SpecError(f"layout: {layout!r}, expected NCHW: deformable convolution has no other")
        for dim, size in enumerate(shape):
            if size == 0 and dim != 0:
                raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")
        for name, count, channels in (
            ("groups", self.groups, self.in_channels), ("groups", self.groups, self.out_channels),
            ("offset_groups", self.offset_groups, self.in_channels),
        ):  # fmt: skip
            if channels % count:
                which = "out_channels" if channels == self.out_channels else "in_channels"
                raise SpecError(f"{name}: {count}, expected a divisor of {which} {channels}")
        store("padding", window_padding(self, padding))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> DeformSpec:
        """The spec that a descriptor states: ``DeformSpec.parse(str(spec)) == spec``. Raises SpecError."""
        return cls(**_GRAMMAR.read(text)[1])

    def __str__(self) -> str:
        words = ["deform2d", grammar.every(self.input_shape), f"o{self.out_channels}",
                 f"k{grammar.every(self.kernel)}"]
        if set(self.stride) != {1}:
            words.append(f"s{grammar.short(self.stride)}")
        if set(self.padding) != {(0, 0)}:
            words.append(f"p{grammar.pads(self.padding)}")
        if set(self.dilation) != {1}:
            words.append(f"d{grammar.short(self.dilation)}")
        words += [f"g{self.groups}"] * (self.groups > 1)
        words += [f"og{self.offset_groups}"] * (self.offset_groups > 1)
        words += ["mask"] * self.mask + ["bias"] * self.bias
        return ":".join([*words, self.layout, self.dtype])

    def signature(self) -> Signature:
        """x; w and bias; offset and mask; the result."""
        given = [
            Operand("x", self.input_shape, self.dtype, self.layout),
            Operand("w", self.weight_shape, self.dtype, "OIHW", "weight"),
        ]
        if self.bias:
            given.append(Operand("bias", self.bias_shape, self.dtype, "O", "weight"))
        given.append(Operand("offset", self.offset_shape, self.dtype))
        if self.mask:
            given.append(Operand("mask", self.mask_shape, self.dtype))
        return (*given, Operand("y", self.output_shape, self.dtype, self.layout, "output"))

    def _out_dim(self, dim: int) -> int:
        size, (lo, hi) = self.in_spatial[dim], self.padding[dim]
        return (size + lo + hi - self.dilation[dim] * (self.kernel[dim] - 1) - 1) // self.stride[dim] + 1

    @property
    def taps(self) -> int:
        """Positions of the kernel."""
        return math.prod(self.kernel)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """(out, in/groups, kh, kw)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        """Shape of the bias, whether the spec has one or not."""
        return (self.out_channels,)

    @property
    def offset_shape(self) -> tuple[int, ...]:
        """(N, offset_groups*kh*kw*2, OH, OW)."""
        return (self.batch, 2 * self.offset_groups * self.taps, *self.out_spatial)

    @property
    def mask_shape(self) -> tuple[int, ...]:
        """(N, offset_groups*kh*kw, OH, OW), whether the spec has a mask or not."""
        return (self.batch, self.offset_groups * self.taps, *self.out_spatial)

    @property
    def macs(self) -> int:
        """Multiply-adds of the convolution of one call, those of the interpolation not counted."""
        return math.prod(self.output_shape) * self.in_channels // self.groups * self.taps

    @property
    def flops(self) -> int:
        """Floating-point operations of one call: two a multiply-add."""
        return 2 * self.macs

    @property
    def bytes(self) -> int:
        """Bytes that one call must move at least: every array once."""
        shapes = [self.input_shape, self.weight_shape, self.offset_shape, self.output_shape]
        shapes += [self.mask_shape] * self.mask + [self.bias_shape] * self.bias
        return sum(map(math.prod, shapes)) * ITEMSIZE[self.dtype]

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: flops per byte."""
        return self.flops / self.bytes

    @property
    def kind(self) -> str:
        """deform."""
        return "deform"


def _check_sizes(spec: DeformSpec) -> None:
    for dim, (size, (lo, hi)) in enumerate(zip(spec.in_spatial, spec.padding, strict=True)):
        reach = spec.dilation[dim] * (spec.kernel[dim] - 1) + 1
        if reach > size + lo + hi:
            dilated = f" dilated by {spec.dilation[dim]}" if spec.dilation[dim] > 1 else ""
            raise SpecError(
                f"kernel: {spec.kernel[dim]}{dilated} in spatial dim {dim}, expected at most "
                f"the padded input's {size + lo + hi}"
            )
    images = max(spec.batch, 1)
    for name, elements in (
        ("input with its border", images * spec.in_channels * math.prod(s + BORDER for s in spec.in_spatial)),
        ("weight", math.prod(spec.weight_shape)),
        ("offset", images * math.prod(spec.offset_shape[1:])),
        ("output", images * math.prod(spec.output_shape[1:])),
    ):
        if elements > MOST_ELEMENTS:
            raise SpecError(f"{name}: {elements} elements, expected at most {MOST_ELEMENTS} (32-bit indices)")
