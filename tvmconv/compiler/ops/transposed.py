"""The transposed convolution, phase by phase (see ``transposed_problem``), of any rank, in both layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tvm import te, tirx

from tvmconv.compiler.lower.dots import dot_product
from tvmconv.compiler.ops.algorithm import Epilogue, FloatConvolution
from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.compiler.ops.conv import Padded, channel_array
from tvmconv.compiler.ops.epilogue import finished
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.placing import with_placed_result
from tvmconv.compiler.ops.problem import Problem, join, result_index
from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.schedules.dots import Dot

Source = Callable[..., tirx.Expr]
"""Of (n, g, i, place): input channel i at a place in x with its zeros."""


@dataclass(frozen=True)
class Phases:
    """The arrays that all stages but ``pad`` have: over positions and phases. With ``planes`` positions are
    innermost and x has its zeros around it; otherwise channels are, and what lies outside x is skipped."""

    p: TransposedProblem
    planes: bool

    @property
    def padded(self) -> Problem:
        """The longest phase, with the padding that x is read with."""
        phase = self.p.phase()
        return phase if self.planes else replace(phase, pad=((0, 0),) * len(phase.pad))

    @property
    def reach(self) -> tuple[int, ...]:
        """Sizes of x with its zeros."""
        return tuple(lo + size + hi for size, (lo, hi) in zip(self.p.spatial, self.padded.pad, strict=True))

    def sums(
        self, packing: Packing, source: Source, words: int, w: te.Tensor, dot: Dot | None = None
    ) -> te.Tensor:
        """The stages ``conv``, the sums over ``words`` input channels, or words of them that ``dot`` takes;
        and ``phase``, a copy that a schedule can collect them in."""
        p, rank = self.p, len(self.p.spatial)
        steps = [te.reduce_axis((0, count), name=f"j{d}") for d, count in enumerate(p.steps)]
        i = te.reduce_axis((0, words), name="i")
        shift = [lo for lo, _ in self.padded.pad]

        def product(*at):
            n, g, o, q, r = self.parts(at)
            place = [p.source(d, q[d], r[d], steps[d]) for d in range(rank)]
            taps = [p.tap(d, r[d], steps[d]) for d in range(rank)]
            used = _used(p, q, r, taps, None if self.planes else place)
            value = source(n, g, i, [s + lo for s, lo in zip(place, shift, strict=True)])
            weight = w(*packing.index(p, g, o, tuple(taps), i))
            term = value * weight if dot is None else dot_product(dot, value, weight)
            if used:
                term = te.if_then_else(te.all(*used), term, tirx.const(0, p.acc_dtype))
            return te.sum(term, axis=[*steps, i])

        shape = self._mixed(p.batch, p.groups, p.out_group, p.positions, p.stride)
        conv = te.compute(shape, product, name="conv")
        return te.compute(shape, lambda *at: conv(*at), name="phase")

    def _mixed(self, n, g, o, q, r) -> tuple:
        return (n, g, o, *q[:-1], *r, q[-1]) if self.planes else (n, *q, *r, g, o)

    def parts(self, at: Sequence) -> tuple:
        """(batch, group, output channel of it, positions, phases) of an index."""
        rank = len(self.p.spatial)
        if self.planes:
            n, g, o, *spatial = at
            return n, g, o, (*spatial[: rank - 1], spatial[-1]), tuple(spatial[rank - 1 : -1])
        n, *spatial, g, o = at
        return n, g, o, tuple(spatial[:rank]), tuple(spatial[rank:])

    def place(self, at: Sequence) -> tuple[tuple, list[tirx.Expr]]:
        """The index in the result of what is computed at an index, and the conditions under which it is
        stored."""
        n, g, o, q, r = self.parts(at)
        spatial = [q[d] * stride + r[d] for d, stride in enumerate(self.p.stride)]
        return result_index(self.p, join(self.p, n, g, o, spatial)), _inside(self.p, q, r)

    def func(self, arrays: list[te.Tensor | None]) -> tirx.PrimFunc:
        """The function of ``arrays`` (those that exist), of which the last, y, is stored in its place."""
        made = te.create_prim_func([t for t in arrays if t is not None])
        return with_placed_result(made, self.p.result_shape, self.place)


def kernel_func(p: TransposedProblem, packing: Packing, does: Epilogue, planes: bool) -> tirx.PrimFunc:
    """``(x[, residual], packed weights[, bias][, slopes], y)``: stages ``pad`` (where x is padded or
    widened), ``conv``, ``phase``, ``y``, of which all but the first are as ``Phases`` has them."""
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(p), p.acc_dtype, name="w")
    b = channel_array(p, "b") if does.bias else None
    residue = te.placeholder(p.result_shape, does.out_dtype, name="r") if does.residual else None
    slopes = channel_array(p, "slopes") if does.slopes else None
    phases = Phases(p, planes)
    copy = Padded(phases.padded, x, phases.reach, p.acc_dtype).copy()
    phase = phases.sums(packing, lambda n, g, i, place: copy(*join(p, n, g, i, place)), p.in_group, w)

    def finish(*at):
        _, g, o, _, _ = phases.parts(at)
        value = finished(
            phase(*at), bias=None if b is None else b(g, o), slope=None if slopes is None else slopes(g, o),
            residual=None if residue is None else widened(residue(*phases.place(at)[0]), p.acc_dtype),
            activation=does.activation,
        )  # fmt: skip
        return narrowed(value, does.out_dtype)

    return phases.func([x, residue, w, b, slopes, te.compute(phase.shape, finish, name="y")])


def _inside(p: TransposedProblem, q, r) -> list[tirx.Expr]:
    """Whether there is such an output: the last position of some phases may be past the end."""
    pairs = enumerate(zip(p.out_spatial, p.stride, strict=True))
    return [q[d] * stride + r[d] < size for d, (size, stride) in pairs if size % stride]


def _used(p: TransposedProblem, q, r, taps, place) -> list[tirx.Expr]:
    """When a product counts: there is such an output, such a tap and, given its ``place``, such an input."""
    conditions = _inside(p, q, r)
    for d in range(len(p.stride)):
        if p.common(d) > 1:
            conditions.append(tirx.EQ((r[d] + p.pad[d][0]) % p.common(d), 0))
        if p.kernel[d] % p.tap_step(d):
            conditions.append(taps[d] < p.kernel[d])
        if place is not None:
            lo, hi = p.around(d)
            if lo:
                conditions.append(place[d] >= 0)
            if hi:
                conditions.append(place[d] < p.spatial[d])
    return conditions


@dataclass(frozen=True)
class PhaseSums(FloatConvolution):
    """The definition phase by phase; ``planes``: as in ``Phases``."""

    planes: bool = False
    name = "direct"

    def definition(self, p: TransposedProblem, packing: Packing, does: Epilogue) -> tirx.PrimFunc:
        """See ``kernel_func``."""
        return kernel_func(p, packing, does, self.planes)
