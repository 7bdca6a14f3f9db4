"""PoolSpec: everything that defines a pooling, checked once, when it is made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.base.messages import unknown
from tvmconv.specs import names
from tvmconv.specs.checks import (
    check_elements,
    check_shape,
    read_dtype,
    read_flag,
    read_layout,
    read_shape,
)
from tvmconv.specs.grammar import Grammar
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.padding import window_padding
from tvmconv.specs.spec import Spec
from tvmconv.specs.tokens import LAYOUT, PADDING, Flag, Sizes, Types
from tvmconv.specs.window import Ints, Padding, WindowSpec

OPERATIONS = ("max", "avg")
DTYPES = {"max": names.DTYPES, "avg": tuple(name for name in names.DTYPES if name in FLOATS)}


@dataclass(frozen=True, slots=True, init=False, repr=False)
class PoolSpec(WindowSpec):
    """A pooling: the largest, or the mean, of each window of each channel.

    Frozen and hashable; stored canonically, as a ConvSpec is.

    ``input_shape``: (N, C, *spatial) or (N, *spatial, C), 1 to 3 spatial dims; N may be 0. ``kernel``,
    ``stride`` (None: the kernel), ``dilation``: an int, or one per spatial dim. ``operation``: "max" or
    "avg". ``padding``: as a ConvSpec's, each less than the window's extent; outside the image there is minus
    infinity (the least value of an integer type) for max, zero for avg. ``ceil_mode``: as in ONNX and torch,
    the number of results is rounded up, but the last window starts inside the image or its low padding.
    ``count_include_pad`` (avg only): zeros of the padding count as elements of the mean; what a window
    reaches beyond the padding with ceil_mode never does. A mean of no elements is 0. ``layout``: as a
    ConvSpec's. ``dtype``: float32, float64, float16 or bfloat16 (the last two have float32 sums), for max
    also int8 and uint8. NaN in a window is its maximum, as in torch.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    family: ClassVar[str] = "pool"
    grammar: ClassVar[Grammar] = Grammar(
        kinds=("maxpool", "avgpool"),
        example="maxpool2d:1x56x56x64:k3x3:s2:p1:NHWC:float32",
        tokens=(
            Sizes("kernel", "k", each=True), Sizes("stride", "s"), PADDING, Sizes("dilation", "d", 1),
            Flag("ceil_mode", "ceil"), Flag("count_include_pad", "countpad"), LAYOUT, Types("dtype"),
        ),
        needed=("kernel",),
    )  # fmt: skip

    operation: str
    ceil_mode: bool
    count_include_pad: bool

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

        if operation not in OPERATIONS:
            raise unknown("operation", operation, OPERATIONS)
        self._store("input_shape", shape)
        self._store("operation", operation)
        self._read_window(kernel, kernel if stride is None else stride, dilation)
        self._store("ceil_mode", read_flag("ceil_mode", ceil_mode))
        self._store("count_include_pad", read_flag("count_include_pad", count_include_pad))
        self._store("layout", read_layout(layout, rank))
        self._store("dtype", read_dtype("dtype", dtype, DTYPES[operation]))
        if self.count_include_pad and operation == "max":
            raise SpecError("count_include_pad: True, expected False for max")
        check_shape(shape)
        self._store("padding", window_padding(self, padding))
        _check_sizes(self)

    @classmethod
    def parse(cls, text: str) -> PoolSpec:
        """The spec that a descriptor states: ``PoolSpec.parse(str(spec)) == spec``. Raises SpecError."""
        kind, found = cls.grammar.read(text)
        return cls(operation=kind[:3], **found)

    def __str__(self) -> str:
        return self.grammar.write(self, f"{self.operation}pool")

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
        if not self.ceil_mode:
            return WindowSpec._out_dim(self, dim)
        size, (lo, hi), stride = self.in_spatial[dim], self.padding[dim], self.stride[dim]
        out = -(-(size + lo + hi - self.extent(dim)) // stride) + 1
        return out - 1 if (out - 1) * stride >= size + lo else out

    def size_text(self, dim: int) -> str:
        if not self.ceil_mode:
            return WindowSpec.size_text(self, dim)
        size, (lo, hi), out = self.in_spatial[dim], self.padding[dim], self.out_spatial[dim]
        total = f"({size} + {lo} + {hi} - {self._extent_text(dim)})"
        return f"ceil({total} / {self.stride[dim]}) + 1, begun inside = {out}"

    @property
    def terms(self) -> int:
        """Elements of a window."""
        return self.taps

    @property
    def flops(self) -> int:
        """Operations of one call: one per element of each window."""
        return math.prod(self.output_shape) * self.taps

    @property
    def fill(self) -> float | None:
        """What x may be padded with: the least value for max; None for avg, which counts elements of x."""
        if self.operation == "avg":
            return None
        return -math.inf if self.dtype in FLOATS else float(np.iinfo(self.dtype).min)

    @property
    def is_exact(self) -> bool:
        """Whether results equal the reference's exactly: for max, since a mean divides."""
        return self.operation == "max"

    def allowed_error(self) -> float:
        """0 for max; else as a sum's."""
        return 0.0 if self.operation == "max" else Spec.allowed_error(self)

    def size_of_sums(self, rms: Mapping[str, float]) -> float:
        """The rms value of a mean."""
        return rms["x"] / math.sqrt(self.taps)

    @property
    def is_global(self) -> bool:
        """Whether a single window covers the whole image."""
        return self.kernel == self.in_spatial and set(self.padding) == {(0, 0)} and set(self.dilation) == {1}

    @property
    def kind(self) -> str:
        """maxpool or avgpool, with the prefix global_ if the window is the whole image."""
        return f"{'global_' if self.is_global else ''}{self.operation}pool"


def _check_sizes(spec: PoolSpec) -> None:
    for dim, pair in enumerate(spec.padding):
        if max(pair) >= spec.extent(dim):
            raise SpecError(
                f"padding: {pair} in spatial dim {dim}, expected each less than {spec.extent(dim)}, "
                f"the extent of kernel {spec.kernel[dim]}{spec._dilated_text(dim)}"
            )
    spec._check_window()
    images = max(spec.batch, 1) * spec.in_channels
    padded = [size + lo + max(hi, spec.extent(d)) for d, (size, (lo, hi)) in
              enumerate(zip(spec.in_spatial, spec.padding, strict=True))]
    check_elements(
        input_with_its_padding=images * math.prod(padded), output=images * math.prod(spec.out_spatial)
    )
