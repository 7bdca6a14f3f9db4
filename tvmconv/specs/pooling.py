"""PoolSpec: everything that a pooling is, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvmconv.base.dtypes import FLOATS, ITEMSIZE
from tvmconv.base.errors import SpecError
from tvmconv.specs import descriptor, grammar
from tvmconv.specs.checks import (
    MOST_ELEMENTS,
    read_dtype,
    read_flag,
    read_layout,
    read_per_dim,
    read_shape,
    window_padding,
)
from tvmconv.specs.conv import Ints, Padding
from tvmconv.specs.descriptor import unknown
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.window import WindowSpec

OPERATIONS = ("max", "avg")
DTYPES = {"max": descriptor.DTYPES, "avg": tuple(name for name in descriptor.DTYPES if name in FLOATS)}

_GRAMMAR = grammar.Grammar(
    kinds=("maxpool", "avgpool"),
    example="maxpool2d:1x56x56x64:k3x3:s2:p1:NHWC:float32",
    dims={"k": "kernel", "s": "stride", "d": "dilation"},
    flags={"ceil": "ceil_mode", "countpad": "count_include_pad"},
    needed=("kernel",),
)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class PoolSpec(WindowSpec):
    """A pooling: the largest, or the mean, of each window of each channel.

    Frozen and hashable; stored canonically, as a ConvSpec is.

    ``input_shape``: (N, C, *spatial) or (N, *spatial, C), 1 to 3 spatial dims; N may be 0. ``kernel``,
    ``stride`` (None: the kernel), ``dilation``: an int, or one per spatial dim. ``operation``: "max" or
    "avg". ``padding``: as a ConvSpec's, each less than the window's extent; outside of the image there is
    minus infinity (the least value of an integer type) for max, zero for avg. ``ceil_mode``: as ONNX and
    torch have it: the number of results is rounded up, but the last window starts inside of the image or its
    low padding. ``count_include_pad`` (avg only): zeros of the padding count as elements of the mean; what a
    window of ceil_mode reaches beyond the padding never does. A mean of no element at all is 0.
    ``dtype``: float32, float64, float16 or bfloat16 (means of these two are of float32 sums), for max also
    int8 and uint8. NaN in a window is its maximum, as in torch.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    input_shape: tuple[int, ...]
    kernel: tuple[int, ...]
    operation: str
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    ceil_mode: bool
    count_include_pad: bool
    layout: str
    dtype: str

    def __init__(
        self,
        input_shape: Sequence[int],
        kernel: Ints,
        *,
        operation: str = "max",
        stride: Ints | None = None,
        padding: Padding = 0,
        dilation: Ints = 1,
        ceil_mode: bool = False,
        count_include_pad: bool = False,
        layout: str = "NCHW",
        dtype: Any = "float32",
    ) -> None:
        shape = read_shape(input_shape)
        rank = len(shape) - 2

        def store(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)  # the class is frozen

        if operation not in OPERATIONS:
            raise unknown("operation", operation, OPERATIONS)
        store("input_shape", shape)
        store("operation", operation)
        store("kernel", read_per_dim("kernel", kernel, rank, 1))
        store("stride", self.kernel if stride is None else read_per_dim("stride", stride, rank, 1))
        store("dilation", read_per_dim("dilation", dilation, rank, 1))
        store("ceil_mode", read_flag("ceil_mode", ceil_mode))
        store("count_include_pad", read_flag("count_include_pad", count_include_pad))
        store("layout", read_layout(layout, rank))
        store("dtype", read_dtype("dtype", dtype, DTYPES[operation]))
        if self.count_include_pad and operation == "max":
            raise SpecError("count_include_pad: True, expected False for max")
        for dim, size in enumerate(shape):
            if size == 0 and dim != 0:
                raise SpecError(f"input_shape: {shape}, expected no dim but the batch to be 0")
        store("padding", window_padding(self, padding))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> PoolSpec:
        """The spec that a descriptor states: ``PoolSpec.parse(str(spec)) == spec``. Raises SpecError."""
        kind, found = _GRAMMAR.read(text)
        return cls(operation=kind[:3], **found)

    def __str__(self) -> str:
        words = [f"{self.operation}pool{self.rank}d", grammar.every(self.input_shape),
                 f"k{grammar.every(self.kernel)}", f"s{grammar.short(self.stride)}"]
        if set(self.padding) != {(0, 0)}:
            words.append(f"p{grammar.pads(self.padding)}")
        if set(self.dilation) != {1}:
            words.append(f"d{grammar.short(self.dilation)}")
        words += ["ceil"] * self.ceil_mode + ["countpad"] * self.count_include_pad
        return ":".join([*words, self.layout, self.dtype])

    def signature(self) -> Signature:
        """x and the result."""
        return (
            Operand("x", self.input_shape, self.dtype, self.layout),
            Operand("y", self.output_shape, self.dtype, self.layout, "output"),
        )

    @property
    def out_channels(self) -> int:
        """Channels of the result: those of x."""
        return self.in_channels

    def _out_dim(self, dim: int) -> int:
        size, (lo, hi), stride = self.in_spatial[dim], self.padding[dim], self.stride[dim]
        room = size + lo + hi - _reach(self, dim)
        if not self.ceil_mode:
            return room // stride + 1
        out = -(-room // stride) + 1
        return out - 1 if (out - 1) * stride >= size + lo else out

    @property
    def taps(self) -> int:
        """Elements of a window."""
        return math.prod(self.kernel)

    @property
    def flops(self) -> int:
        """Operations of one call: one an element of each window."""
        return math.prod(self.output_shape) * self.taps

    @property
    def bytes(self) -> int:
        """Bytes that one call must move at least: x and result once each."""
        return (math.prod(self.input_shape) + math.prod(self.output_shape)) * ITEMSIZE[self.dtype]

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: flops per byte."""
        return self.flops / self.bytes if self.bytes else 0.0

    @property
    def is_global(self) -> bool:
        """Whether the one window is the whole image."""
        return self.kernel == self.in_spatial and set(self.padding) == {(0, 0)} and set(self.dilation) == {1}

    @property
    def kind(self) -> str:
        """maxpool or avgpool, after global_ where the window is the whole image."""
        return f"{'global_' if self.is_global else ''}{self.operation}pool"


def _reach(spec: PoolSpec, dim: int) -> int:
    return spec.dilation[dim] * (spec.kernel[dim] - 1) + 1


def _check_sizes(spec: PoolSpec) -> None:
    for dim in range(spec.rank):
        size, (lo, hi), reach = spec.in_spatial[dim], spec.padding[dim], _reach(spec, dim)
        dilated = f" dilated by {spec.dilation[dim]}" if spec.dilation[dim] > 1 else ""
        if max(lo, hi) >= reach:
            raise SpecError(
                f"padding: {spec.padding[dim]} in spatial dim {dim}, expected each less than {reach}, "
                f"the extent of kernel {spec.kernel[dim]}{dilated}"
            )
        if reach > size + lo + hi:
            raise SpecError(
                f"kernel: {spec.kernel[dim]}{dilated} in spatial dim {dim}, expected at most "
                f"the padded input's {size + lo + hi}"
            )
    images = max(spec.batch, 1) * spec.in_channels
    padded = [size + lo + max(hi, _reach(spec, d)) for d, (size, (lo, hi)) in
              enumerate(zip(spec.in_spatial, spec.padding, strict=True))]
    for name, elements in (
        ("input with its padding", images * math.prod(padded)),
        ("output", images * math.prod(spec.out_spatial)),
    ):
        if elements > MOST_ELEMENTS:
            raise SpecError(f"{name}: {elements} elements, expected at most {MOST_ELEMENTS} (32-bit indices)")
