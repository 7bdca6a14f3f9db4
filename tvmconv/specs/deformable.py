"""DeformSpec: everything that defines a deformable convolution, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tvmconv.base.errors import SpecError
from tvmconv.specs.checks import (
    check_elements,
    check_shape,
    read_dtype,
    read_flag,
    read_integer,
    read_layout,
    read_shape,
)
from tvmconv.specs.grammar import Grammar
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.padding import window_padding
from tvmconv.specs.spec import Spec
from tvmconv.specs.tokens import LAYOUT, PADDING, Count, Flag, Sizes, Types
from tvmconv.specs.window import Ints, Padding, WindowSpec

DTYPES = ("float32",)
BORDER = 3  # rows and columns of zeros that kernels put around the image: 2 before, 1 after


@dataclass(frozen=True, slots=True, init=False, repr=False)
class DeformSpec(WindowSpec):
    """A deformable convolution, v1, or v2 with ``mask``: ONNX's DeformConv, torchvision's deform_conv2d.

    Each tap of the kernel reads x at its position plus its own offset, by bilinear interpolation among four
    pixels; pixels outside the image are 0, and a position 1 or more outside gives 0.

    Frozen and hashable. ``input_shape``: (N, C, H, W); N may be 0. ``kernel``, ``stride``, ``padding``,
    ``dilation``, ``groups``: as a ConvSpec's. ``offset_groups``: the number of groups of x's channels, each
    with its own offsets (and masks). ``layout``: NCHW only. ``dtype``: float32 only.

    Arrays: x; weights w (out, in/groups, kh, kw); offset (N, offset_groups*kh*kw*2, OH, OW), for every tap
    its vertical part, then its horizontal one; mask (N, offset_groups*kh*kw, OH, OW); bias (out,).
    An offset that is NaN gives NaN; no offset makes a kernel read outside x.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    family: ClassVar[str] = "deform"
    layouts: ClassVar[tuple[str, ...]] = ("NCHW",)
    grammar: ClassVar[Grammar] = Grammar(
        kinds=("deform",),
        ranks=(2,),
        example="deform2d:1x64x28x28:o64:k3x3:p1:mask:bias:NCHW:float32",
        tokens=(
            Count("out_channels", "o"), Sizes("kernel", "k", each=True), Sizes("stride", "s", 1), PADDING,
            Sizes("dilation", "d", 1), Count("groups", "g", 1), Count("offset_groups", "og", 1),
            Flag("mask", "mask"), Flag("bias", "bias"), LAYOUT, Types("dtype"),
        ),
        needed=("out_channels", "kernel"),
    )  # fmt: skip

    out_channels: int
    groups: int
    offset_groups: int
    mask: bool
    bias: bool

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

        self._store("input_shape", shape)
        self._store("out_channels", read_integer("out_channels", out_channels, 1))
        self._read_window(kernel, stride, dilation)
        self._store("groups", read_integer("groups", groups, 1))
        self._store("offset_groups", read_integer("offset_groups", offset_groups, 1))
        self._store("mask", read_flag("mask", mask))
        self._store("bias", read_flag("bias", bias))
        self._store("layout", read_layout(layout, 2))
        self._store("dtype", read_dtype("dtype", dtype, DTYPES))
        if self.layout not in self.layouts:
            raise SpecError(f"layout: {layout!r}, expected NCHW: deformable convolution has no other")
        check_shape(shape)
        for name, count, channels in (
            ("groups", self.groups, self.in_channels), ("groups", self.groups, self.out_channels),
            ("offset_groups", self.offset_groups, self.in_channels),
        ):  # fmt: skip
            if channels % count:
                which = "out_channels" if channels == self.out_channels else "in_channels"
                raise SpecError(f"{name}: {count}, expected a divisor of {which} {channels}")
        self._store("padding", window_padding(self, padding))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> DeformSpec:
        """The spec that a descriptor states: ``DeformSpec.parse(str(spec)) == spec``. Raises SpecError."""
        return cls(**cls.grammar.read(text)[1])

    def __str__(self) -> str:
        return self.grammar.write(self, "deform")

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
        """Multiply-adds of the convolution in one call, without those of the interpolation."""
        return math.prod(self.output_shape) * self.in_channels // self.groups * self.taps

    @property
    def terms(self) -> int:
        """Products in a sum."""
        return self.taps * self.in_channels // self.groups

    def allowed_error(self) -> float:
        """Interpolation also errs by the rounding of a position, which may be as large as the image."""
        return Spec.allowed_error(self) + 2 * max(self.in_spatial)

    def twins(self) -> tuple[Spec, ...]:
        """It without the bias."""
        return (replace(self, bias=False),) if self.bias else ()

    @property
    def kind(self) -> str:
        """The kind, "deform"."""
        return "deform"


def _check_sizes(spec: DeformSpec) -> None:
    spec._check_window()
    images = max(spec.batch, 1)
    check_elements(
        input_with_its_border=images * spec.in_channels * math.prod(s + BORDER for s in spec.in_spatial),
        weight=math.prod(spec.weight_shape),
        offset=images * math.prod(spec.offset_shape[1:]),
        output=images * math.prod(spec.output_shape[1:]),
    )
