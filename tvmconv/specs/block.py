"""BlockSpec: a depthwise convolution and the pointwise ones around it as one layer, checked once, when it is
made."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from tvmconv.base.dtypes import BYTES
from tvmconv.base.errors import SpecError
from tvmconv.specs import checks
from tvmconv.specs.activations import canonical_activation, clamp_of, row_of
from tvmconv.specs.block_parts import check_chain
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.grammar import Grammar
from tvmconv.specs.operand import Operand, Signature
from tvmconv.specs.padding import window_padding
from tvmconv.specs.spec import Spec
from tvmconv.specs.tokens import LAYOUT, PADDING, WEIGHTS, Activations, Count, Flag, Sizes, Types
from tvmconv.specs.window import Ints, Padding, WindowSpec

DTYPES = ("float32", "float16", "bfloat16", *BYTES)
MOST_TAPS = 256  # of 8-bit integers: their sums, of products up to 255 * 255, are exact in float32
PREFIXES = {"expand": "expand_", "depthwise": "", "project": "project_"}
"""What the names of a part's weights begin with."""


@dataclass(frozen=True, slots=True, init=False, repr=False)
class BlockSpec(WindowSpec):
    """A block of mobile networks (MobileNetV1's separable convolution, MobileNetV2's inverted residual): a
    pointwise convolution to ``expand`` channels, if that is not 0; a depthwise one; a pointwise one to
    ``out_channels``. Its kernels keep what lies in between in the cache, a few rows at a time; on a GPU, in
    shared memory, a tile at a time.

    Frozen and hashable; stored canonically, as a ConvSpec is.

    ``input_shape``: (N, H, W, C); N may be 0. ``kernel``, ``stride``, ``padding``, ``dilation``: of the
    depthwise convolution, as a ConvSpec's; what it sees outside the image is zero. ``layout``: NHWC only.
    ``dtype``: float32, or float16 or bfloat16 with float32 sums; what lies in between is not rounded to it.
    Or int8 or uint8, of x and of every part's result, which is quantised exactly as a ConvSpec's; then
    ``weight_dtype``, of all weights, is int8 (None) or uint8. ``bias``: all parts have one. ``residual``: an
    array of the output's shape is added to the result, before ``activation``; ``expand_activation`` and
    ``depthwise_activation`` are those of the other two parts; none of them takes slopes. ``scale``: an array
    (N, 1, 1, channels) multiplies what the last part reads, as in squeeze-and-excite; of floats only.

    Arrays: x; w and bias, of the depthwise part, (kh, kw, 1, channels) and (channels,); residual; expand_w
    (1, 1, C, expand) and expand_bias; project_w (1, 1, channels, out) and project_bias. With 8 bits, biases
    are int32, and scales and zero points follow: of x; expand_w, expand_y; w, depthwise_y; project_w; r; y.

    Raises SpecError: one line with the argument, its value and what was expected.
    """

    family: ClassVar[str] = "block"
    layouts: ClassVar[tuple[str, ...]] = ("NHWC",)
    grammar: ClassVar[Grammar] = Grammar(
        kinds=("block",),
        ranks=(2,),
        example="block2d:1x56x56x24:e144:k3x3:p1:o24:NHWC:float32:bias:expand=relu6:depthwise=relu6",
        tokens=(
            Count("expand", "e", 0), Sizes("kernel", "k", each=True), Sizes("stride", "s", 1), PADDING,
            Sizes("dilation", "d", 1), Count("out_channels", "o"), LAYOUT, Types("dtype"), WEIGHTS,
            Flag("bias", "bias"), Flag("residual", "residual"), Flag("scale", "scale"),
            Activations("expand_activation", prefix="expand="),
            Activations("depthwise_activation", prefix="depthwise="), Activations("activation"),
        ),
        needed=("out_channels", "kernel"),
    )  # fmt: skip

    input_shape: tuple[int, ...]
    out_channels: int
    kernel: tuple[int, ...]
    expand: int
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    layout: str
    dtype: str
    weight_dtype: str
    bias: bool
    residual: bool
    scale: bool
    expand_activation: str | None
    depthwise_activation: str | None
    activation: str | None

    def __init__(
        self,
        input_shape: Sequence[int],
        out_channels: int,
        kernel: Ints,
        *,
        expand: int = 0,
        stride: Ints = 1,
        padding: Padding = 0,
        dilation: Ints = 1,
        layout: str = "NHWC",
        dtype: Any = "float32",
        weight_dtype: Any = None,
        bias: bool = False,
        residual: bool = False,
        scale: bool = False,
        expand_activation: str | tuple[Any, ...] | None = None,
        depthwise_activation: str | tuple[Any, ...] | None = None,
        activation: str | tuple[Any, ...] | None = None,
    ) -> None:
        shape = checks.read_shape(input_shape)
        if len(shape) != 4:
            raise SpecError(f"input_shape: {shape}, expected 4 dims: blocks are 2-D only")

        self._store("input_shape", shape)
        self._store("out_channels", checks.read_integer("out_channels", out_channels, 1))
        self._read_window(kernel, stride, dilation)
        self._store("expand", checks.read_integer("expand", expand, 0))
        self._store("layout", checks.read_layout(layout, 2))
        self._store("dtype", checks.read_dtype("dtype", dtype, DTYPES))
        self._store("weight_dtype", checks.read_weight_dtype(self.dtype, weight_dtype))
        self._store("bias", checks.read_flag("bias", bias))
        self._store("residual", checks.read_flag("residual", residual))
        self._store("scale", checks.read_flag("scale", scale))
        if self.scale and self.is_integer:
            raise SpecError(f"scale: True, expected False in a block of {self.dtype}")
        if self.layout not in self.layouts:
            raise SpecError(f"layout: {layout!r}, expected NHWC: blocks have no other")
        given = {"expand_activation": expand_activation, "depthwise_activation": depthwise_activation,
                 "activation": activation}  # fmt: skip
        for name, value in given.items():
            self._store(name, canonical_activation(value))
            row = row_of(getattr(self, name))
            if row is not None and row.slopes:
                raise SpecError(f"{name}: {row.name!r}, expected one without slopes in a block")
        if self.expand_activation is not None and not self.expand:
            raise SpecError(f"expand_activation: {self.expand_activation!r}, expected None where expand is 0")
        checks.check_shape(shape)
        self._store("padding", window_padding(self, padding))
        self._check_window()
        if self.is_integer and self.taps > MOST_TAPS:
            raise SpecError(f"kernel: {self.taps} taps, expected at most {MOST_TAPS} with {self.dtype}")
        for part in self.parts().values():  # each is small enough to be indexed
            part.check_supported()

    @classmethod
    def parse(cls, text: str) -> BlockSpec:
        """The spec that a descriptor states: ``BlockSpec.parse(str(spec)) == spec``. Raises SpecError."""
        return cls(**cls.grammar.read(text)[1])

    @classmethod
    def of(cls, depthwise: ConvSpec, project: ConvSpec, expand: ConvSpec | None = None) -> BlockSpec:
        """The block of these convolutions, each of which reads what the one before makes; all with a bias
        where one has it. Raises SpecError for parts that do not fit, naming the part."""
        chain = {"expand": expand, "depthwise": depthwise, "project": project}
        parts = [(name, part) for name, part in chain.items() if part is not None]
        check_chain(parts, DTYPES)
        return cls(
            parts[0][1].input_shape, project.out_channels, depthwise.kernel,
            expand=0 if expand is None else expand.out_channels, stride=depthwise.stride,
            padding=depthwise.padding, dilation=depthwise.dilation, layout=depthwise.layout,
            dtype=depthwise.dtype, weight_dtype=depthwise.weight_dtype,
            bias=any(part.bias for _, part in parts), residual=project.residual,
            expand_activation=None if expand is None else expand.activation,
            depthwise_activation=depthwise.activation, activation=project.activation,
        )  # fmt: skip

    def parts(self) -> dict[str, ConvSpec]:
        """The convolutions that it is made of, in order, by name: maybe "expand"; "depthwise"; "project"."""
        same: dict[str, Any] = {"layout": self.layout, "dtype": self.dtype, "weight_dtype": self.weight_dtype,
                                "bias": self.bias}  # fmt: skip
        found = {}
        if self.expand:
            found["expand"] = ConvSpec(
                self.input_shape, self.expand, 1, activation=self.expand_activation, **same)  # fmt: skip
        found["depthwise"] = ConvSpec(
            (*self.input_shape[:-1], self.channels), self.channels, self.kernel, stride=self.stride,
            padding=self.padding, dilation=self.dilation, groups=self.channels,
            activation=self.depthwise_activation, **same,
        )  # fmt: skip
        found["project"] = ConvSpec(
            found["depthwise"].output_shape, self.out_channels, 1, residual=self.residual,
            activation=self.activation, **same,
        )  # fmt: skip
        return found

    def __str__(self) -> str:
        return self.grammar.write(self, "block")

    def arguments(self) -> dict[str, dict[str, str]]:
        """For each part: what the block calls the arrays that it has besides x and its result."""
        found, before = {}, "x"
        for name, part in self.parts().items():
            own, made = {}, "y" if name == "project" else f"{name}_y"
            for o in part.signature()[1:-1]:
                array, _, what = o.name.partition("_")
                heads = {"x": before, "y": made, "r": "r"}
                if o.name == "residual":
                    own[o.name] = o.name
                else:
                    own[o.name] = f"{heads[array]}_{what}" if array in heads else PREFIXES[name] + o.name
            found[name], before = own, made
        return found

    def signature(self) -> Signature:
        """x; w and bias of the depthwise part; residual; weights and biases of the others; scales and zero
        points; the result."""
        parts, names = self.parts(), self.arguments()
        given = {
            names[name][o.name]: replace(o, name=names[name][o.name])
            for name, part in parts.items() for o in part.signature() if o.name in names[name]
        }  # fmt: skip
        others = sorted(given, key=lambda name: given[name].is_quantisation)
        order = dict.fromkeys(["w", "bias", "residual", "scale", *others])
        if self.scale:
            shape = (self.batch, 1, 1, self.channels)
            given["scale"] = Operand("scale", shape, self.dtype, self.layout)
        return (
            Operand("x", self.input_shape, self.dtype, self.layout),
            *(given[name] for name in order if name in given),
            Operand("y", self.output_shape, self.dtype, self.layout, "output"),
        )  # fmt: skip

    def part_of(self, name: str) -> Spec:
        """See ``Spec``."""
        parts = self.parts()
        owners = (part for part, names in self.arguments().items() if name in names.values())
        return parts[next(owners, "project")]

    @property
    def channels(self) -> int:
        """Channels of the depthwise part."""
        return self.expand or self.in_channels

    @property
    def macs(self) -> int:
        """Multiply-adds of its parts in one call."""
        return sum(part.macs for part in self.parts().values())

    @property
    def terms(self) -> int:
        """Products in the sums that one result goes through, one part after the other."""
        return sum(part.terms for part in self.parts().values())

    @property
    def kind(self) -> str:
        """The kind, "block"."""
        return "block"

    @property
    def is_operator(self) -> bool:
        """No other engine has it as one."""
        return False

    @property
    def fill(self) -> float | None:
        """0; None with an expanding part, which makes its bias of zeros."""
        return None if self.expand else 0.0

    @property
    def is_exact(self) -> bool:
        """Where activations only clamp; those of floats in between, to integers."""
        between = [clamp_of(text) for text in (self.expand_activation, self.depthwise_activation)]
        if self.is_integer:
            return None not in (*between, clamp_of(self.activation))
        whole = all(
            bounds is not None and all(math.isinf(bound) or float(bound).is_integer() for bound in bounds)
            for bounds in between
        )
        return whole and Spec.is_exact.fget(self)  # type: ignore[attr-defined]

    def size_of_sums(self, rms: Mapping[str, float]) -> float:
        """The rms value of the last part's sums, as if no activation before it made them smaller."""
        size, bias = rms["x"], 1.0 if self.bias else 0.0
        for prefix, terms in (("expand_", self.in_channels), ("", self.taps), ("project_", self.channels)):
            if f"{prefix}w" in rms:
                size *= rms.get("scale", 1.0) if prefix == "project_" else 1.0
                size = math.hypot(math.sqrt(terms) * size * rms[f"{prefix}w"],
                                  bias * rms.get(f"{prefix}bias", 0.0))  # fmt: skip
        return size

    def twins(self) -> tuple[Spec, ...]:
        """It without residual and activations, and without biases as well."""
        plain = replace(self, residual=False, expand_activation=None, depthwise_activation=None,
                        activation=None)  # fmt: skip
        found = (plain, replace(plain, bias=False))
        return tuple(twin for twin in dict.fromkeys(found) if twin != self)
