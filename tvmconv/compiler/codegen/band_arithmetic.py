"""What the numbers of a block's bands are, and how a part's sums become what the next one reads: floats as
they are, and 8-bit integers, whose every part is quantised.

Of integers, the depthwise part reads, and sums in float32, numbers less their zero point, which is exact
there; the pointwise ones multiply words (``ops.words``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import tirx

from tvmconv.compiler.codegen.nest import Array, Index, held, loop
from tvmconv.compiler.lower.dots import dot_product
from tvmconv.compiler.lower.words import word
from tvmconv.compiler.ops import requantise
from tvmconv.compiler.ops.block_packing import ACC, BlockPacking
from tvmconv.compiler.ops.epilogue import finished
from tvmconv.compiler.ops.words import shifted, shifts
from tvmconv.schedules.dots import DOTS
from tvmconv.specs.activations import clamp_of
from tvmconv.specs.block import PREFIXES, BlockSpec

Left = Callable[[int, Index], tirx.Expr]  # of a pixel of a tile, and an input channel
Stmts = list[tirx.Stmt]
_NAMES = {prefix: name for name, prefix in PREFIXES.items()}


class Floats:
    """``sums``: their type in the pointwise parts. ``element``: what these read. ``size``: how many input
    channels they take at a time."""

    sums, element, size = ACC, ACC, 1

    def __init__(self, spec: BlockSpec, packing: BlockPacking, arrays: Mapping[str, Array]) -> None:
        self.spec, self.packing, self.arrays = spec, packing, arrays
        self.activations = {name: part.activation for name, part in spec.parts().items()}

    def words(self, channels: int) -> int:
        """Factors in a sum over so many input channels."""
        return -(-channels // self.size)

    def given(self, pixel: Index, channel: Index) -> tirx.Expr:
        """An element of x for the depthwise part."""
        return self.arrays["x"].at(pixel, channel)

    def start(self, prefix: str, channel: Index) -> tirx.Expr:
        """What a sum begins with."""
        bias = self.arrays.get(f"packed_{prefix}bias")
        return tirx.const(0, ACC) if bias is None else bias.at(channel)

    def factor(self, left: Left, r: int, k: Index) -> tirx.Expr:
        """Number k of the factors of a pixel."""
        return left(r, k)

    def times(self, value: tirx.Expr, weight: tirx.Expr) -> tirx.Expr:
        """A term of a sum."""
        return value * weight

    def windows(self, prefix: str, left: Left, count: int, channels: int) -> tuple[Stmts, Array | None]:
        """The sums of what some pixels have, and what makes them, if their sums of products need these."""
        return [], None

    def total(self, prefix: str, value: tirx.Expr, channel: Index, seen: Array | None, r: int) -> tirx.Expr:
        """A pointwise part's sum."""
        return value

    def done(
        self, prefix: str, value: tirx.Expr, channel: Index, residual: tirx.Expr | None = None
    ) -> tirx.Expr:
        """A part's result."""
        return finished(value, residual=residual, activation=self.activations[_NAMES[prefix]])


class Integers(Floats):
    """See ``Floats``."""

    sums = "int32"

    def __init__(self, spec: BlockSpec, packing: BlockPacking, arrays: Mapping[str, Array]) -> None:
        super().__init__(spec, packing, arrays)
        self.dot = None if packing.dot is None else DOTS[packing.dot]
        self.shifts = shifts(self.dot)
        self.size, self.element = (1, "int32") if self.dot is None else (self.dot.size, self.dot.x)

    def _packed(self, name: str, at: Index = 0) -> tirx.Expr:
        return self.arrays[f"packed_{name}"].at(at)

    def _less_zero(self, at: Index) -> tirx.Expr:
        return self.arrays["x"].at(at).astype("int32") - self._packed("x_zero_point")

    def given(self, pixel: Index, channel: Index) -> tirx.Expr:
        """See ``Floats``."""
        return self._less_zero(pixel * self.spec.in_channels + channel).astype(ACC)

    def read(self, at: Index) -> tirx.Expr:
        """An element of x as the first part multiplies it, if that is a pointwise one."""
        if self.shifts:
            return shifted(self.arrays["x"].at(at), self.element)
        return self._less_zero(at).astype(self.element)

    def start(self, prefix: str, channel: Index) -> tirx.Expr:
        """See ``Floats``."""
        return self._packed(f"{prefix}bias", channel) if prefix else tirx.const(0, ACC)

    def factor(self, left: Left, r: int, k: Index) -> tirx.Expr:
        """See ``Floats``."""
        return left(r, k) if self.dot is None else word(_elements(left, r, k, self.size))

    def times(self, value: tirx.Expr, weight: tirx.Expr) -> tirx.Expr:
        """See ``Floats``."""
        return value * weight if self.dot is None else dot_product(self.dot, value, weight)

    def windows(self, prefix: str, left: Left, count: int, channels: int) -> tuple[Stmts, Array | None]:
        """See ``Floats``: of words that hold numbers with their zero points, where there are zero points of
        weights."""
        if not self.shifts:
            return [], None
        words, last = self.words(channels), channels % self.size
        seen, made = held(count, "int32", "seen")

        def sum_of(r: int) -> tirx.Stmt:
            def add(k: Index, some: int) -> tirx.Stmt:
                # A whole dot product is not worth it here, but that there is one.
                ones = tirx.const(sum(1 << 8 * j for j in range(some)), "int32")
                return seen.put(r, seen.at(r) + self.times(self.factor(left, r, k), ones))

            whole = loop(words - 1 if last else words, lambda k: add(k, self.size))
            return tirx.SeqStmt([whole, add(words - 1, last)]) if last else whole

        zeros = [seen.put(r, tirx.const(0, "int32")) for r in range(count)]
        some = tirx.NE(self._packed(f"{prefix}w_zero_points_matter"), 0)
        sums = tirx.SeqStmt([sum_of(r) for r in range(count)]) if count > 1 else sum_of(0)
        return [made, *zeros, tirx.IfThenElse(some, sums, tirx.Evaluate(tirx.const(0, "int32")))], seen

    def total(self, prefix: str, value: tirx.Expr, channel: Index, seen: Array | None, r: int) -> tirx.Expr:
        """See ``Floats``."""
        if seen is None:
            return value
        return value - self._packed(f"{prefix}w_zero_point", channel) * seen.at(r)

    def done(
        self, prefix: str, value: tirx.Expr, channel: Index, residual: tirx.Expr | None = None
    ) -> tirx.Expr:
        """See ``Floats``: quantised, less its zero point or as the next part's words have it."""
        activation = self.activations[_NAMES[prefix]]
        if not prefix:
            value = value.astype("int32") + self._packed("bias", channel)
        added = None
        if residual is not None:
            added = (residual.astype("int32") - self._packed("r_zero_point")).astype(ACC)
            added = added * self._packed("r_multiplier")
        return requantise.requantised(
            value, self._packed(f"{prefix}multiplier", channel), self._packed(f"{prefix}limits", 0),
            self._packed(f"{prefix}limits", 1), self._packed(f"{prefix}shift"), added=added,
            activation=activation, out_dtype={"expand_": ACC, "": self.element}.get(prefix, self.spec.dtype),
            y_scale=self._packed(f"{prefix}y_scale") if clamp_of(activation) is None else None,
        )  # fmt: skip


def _elements(left: Left, r: int, k: Index, size: int) -> Sequence[tirx.Expr]:
    return [left(r, k * size + j) for j in range(size)]
