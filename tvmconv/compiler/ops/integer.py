"""Convolutions of 8-bit integers, transposed or not, exact: 32-bit sums of (x - its zero point) * (w - its
zero point), used as they are or scaled to 8 bits. ``ops.words`` has the factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm import te, tirx

from tvmconv.compiler.lower.dots import dot_product
from tvmconv.compiler.ops import tensor_gemm, words
from tvmconv.compiler.ops.algorithm import Algorithm, Epilogue, Shapes, Sums
from tvmconv.compiler.ops.conv import live_axes, packed_channels
from tvmconv.compiler.ops.copies import Copy
from tvmconv.compiler.ops.integer_result import Result, packed_scales
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.placing import with_placed_result
from tvmconv.compiler.ops.problem import Problem, flat, join, place_of, result_index, split
from tvmconv.compiler.ops.tensor_gemm import TensorPacking
from tvmconv.compiler.ops.transposed import Phases, PhaseSums
from tvmconv.compiler.ops.transposed_problem import TransposedProblem, ordinary_weights
from tvmconv.formats.kernel import Param
from tvmconv.schedules.dots import Dot


def kernel_func(
    p: Problem, packing: Packing, copy: Copy, dot: Dot | None, q: Epilogue, lanes: int = 1,
    shared: bool = False, flips: bool = False, chooses: bool = False,
) -> tirx.PrimFunc:  # fmt: skip
    """``(x[, residual], packed weights, x's zero point[, bias][, w's zero points, whether there are any]
    [, multiplier, limits, y's zero point[, y's scale][, residual's multiplier, its zero point]], y)``, as
    ``Result`` has them.

    Stages ``pad`` (``words.copied``; as ``copy`` says), ``conv``, ``y``; where zero points stay in the
    factors (``words.shifts``) also those of ``words.window`` (``lanes``, ``shared``), and always a bias. With
    a ``TensorPacking`` also ``columns``. Shapes: the weights' ``packing.shape`` of the problem in words,
    bias, w's zero points and multiplier (groups, out_group), residual and y ``p.result_shape`` (flat with a
    ``TensorPacking``), others (1,).
    """
    done, tensor = words.in_words(p, dot), packing if isinstance(packing, TensorPacking) else None
    done_y = p if tensor is None else flat(p)
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(done), "int32", name="w")
    kept = words.shifts(dot)
    x_zero = te.placeholder((1,), dot.x if kept else p.dtype, name="x_zero")
    result = Result(p, q, done_y.result_shape, always_bias=kept)
    w_zero = te.placeholder((p.groups, p.out_group), "int32", name="w_zero") if kept else None
    some = te.placeholder((1,), "int32", name="some") if kept else None
    source = words.sources(p, dot, x, x_zero, copy, flips)
    if tensor is not None:
        assert dot is not None
        acc = tensor_gemm.products(done, tensor, source, w, dot)
        seen = words.window_of_tiles(p, tensor, dot, source, some)
    else:
        acc = _sums(p, done, packing, dot, source, w)
        seen = words.window(p, dot, source, some, lanes, shared) if kept and dot is not None else None

    def place(at):
        return (split(p, at), []) if tensor is None else tensor.place(p, at)

    def stored(at):
        found, inside = place(at)
        return result_index(done_y, join(done_y, *found)), inside

    def finish(*at):
        value = acc(*at)
        (n, g, o, spatial), _ = place(at)
        if result.bias is not None:
            value = value + result.bias(g, o)
        if seen is not None:
            pixel = join(p, n, g, 0, spatial) if tensor is None else tensor.pixel_dims(p, at)
            less = value - w_zero(g, o) * seen(*pixel)
            value = te.if_then_else(tirx.NE(some(0), 0), less, value) if chooses else less
        return result.of(value, g, o, stored(at)[0])

    shape = p.y_shape if tensor is None else tensor.sums_shape(p)
    y = te.compute(shape, finish, name="y")
    arrays = (x, result.residual, w, x_zero, result.bias, w_zero, some, *result.scales, y)
    func = te.create_prim_func([t for t in arrays if t is not None])
    return with_placed_result(func, done_y.result_shape, stored) if shape != done_y.result_shape else func


def transposed_func(
    p: TransposedProblem, packing: Packing, dot: Dot | None, q: Epilogue, planes: bool
) -> tirx.PrimFunc:
    """``kernel_func`` of a transposed convolution, by a ``dot`` whose factors have their zero points
    subtracted: stages ``pad``, always, and those of ``Phases``."""
    done = words.in_words(p, dot)
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(done), "int32", name="w")
    x_zero = te.placeholder((1,), p.dtype, name="x_zero")
    result, phases = Result(p, q, p.result_shape), Phases(p, planes)
    source = words.sources(phases.padded, dot, x, x_zero, Copy(phases.padded, phases.reach))
    phase = phases.sums(packing, source, done.in_group, w, dot)

    def finish(*at):
        _, g, o, _, _ = phases.parts(at)
        value = phase(*at) if result.bias is None else phase(*at) + result.bias(g, o)
        return result.of(value, g, o, phases.place(at)[0])

    y = te.compute(phase.shape, finish, name="y")
    return phases.func([x, result.residual, w, x_zero, result.bias, *result.scales, y])


def prepack_func(p: Problem, packing: Packing, dot: Dot | None, q: Epilogue) -> tirx.PrimFunc:
    """``(w[, bias], quantisation..., what the kernel takes after x and residual)``.

    Quantisation: x and w zero points, or with scaled sums the scales of x, w, residual (if any) and y, each
    before its zero point.
    """
    w = te.placeholder(p.given_weight_shape, q.weight_dtype, name="w")
    out, channels, one = (p.groups * p.out_group,), (p.groups, p.out_group), (1,)
    b = te.placeholder(channels, "int32", name="bias") if q.bias else None
    x_zero = te.placeholder(one, p.dtype, name="x_zero_point")
    w_zero = te.placeholder(out, q.weight_dtype, name="w_zero_point")
    packed = [words.packed_weights(p, packing, dot, ordinary_weights(p, w), w_zero)]
    if dot is not None and words.shifts(dot):
        packed += [
            te.compute(one, lambda i: words.shifted(x_zero(i), dot.x), name="packed_x_zero"),
            *words.corrections(p, dot, w, x_zero, w_zero, b),
        ]
    else:
        packed.append(te.compute(one, lambda i: x_zero(i), name="packed_x_zero"))
        if b is not None:
            packed.append(packed_channels(p, b))
    if not q.scaled:
        given = (w, b, x_zero, w_zero)
    else:
        x_scale, y_scale = (te.placeholder(one, "float32", name=f"{n}_scale") for n in "xy")
        w_scale = te.placeholder(out, "float32", name="w_scale")
        y_zero = te.placeholder(one, q.out_dtype, name="y_zero_point")
        r_scale = te.placeholder(one, "float32", name="r_scale") if q.residual else None
        r_zero = te.placeholder(one, q.out_dtype, name="r_zero_point") if q.residual else None
        packed += packed_scales(p, q, x_scale, w_scale, y_scale, y_zero, r_scale, r_zero)
        given = (w, b, x_scale, x_zero, w_scale, w_zero, r_scale, r_zero, y_scale, y_zero)
    return te.create_prim_func([*(t for t in given if t is not None), *packed])


def check_func(p: Problem, dot: Dot, q: Epilogue) -> tirx.PrimFunc:
    """``(w, whether it suits dot)``, see ``words.are_small``."""
    w = te.placeholder(p.given_weight_shape, q.weight_dtype, name="w")
    return te.create_prim_func([w, words.are_small(p, dot, w)])


def _sums(p: Problem, done: Problem, packing: Packing, dot: Dot | None, source, w: te.Tensor) -> te.Tensor:
    axes, taps = live_axes(p)
    i = te.reduce_axis((0, done.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        read = source(n, g, i, place_of(p, spatial, taps))
        weight = w(*packing.index(done, g, o, tuple(taps), i))
        return te.sum(read * weight if dot is None else dot_product(dot, read, weight), axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")


class _Integers(Algorithm):
    """What both have in common: how weights are packed, in words that ``dot`` multiplies, and which arrays
    there are."""

    dot: Dot | None
    name = "direct"

    def prepack(self, p: Problem, packing: Packing, does: Epilogue) -> tirx.PrimFunc:
        """See ``prepack_func``."""
        return prepack_func(p, packing, self.dot, does)

    def shapes(self, p: Problem, packing: Packing) -> Shapes:
        """See ``Algorithm``."""
        result = (flat(p) if isinstance(packing, TensorPacking) else p).result_shape
        return {"x": p.x_shape(), "w": p.given_weight_shape, "bias": (p.groups, p.out_group),
                "residual": result, "y": result}  # fmt: skip

    def packed(self, p: Problem, packing: Packing, does: Epilogue) -> tuple[Param, ...]:
        """See ``Algorithm``."""
        one, out, channels = (1,), (p.groups * p.out_group,), (p.groups, p.out_group)
        kept = words.shifts(self.dot)
        found = [
            Param("packed_w", packing.shape(words.in_words(p, self.dot)), "int32"),
            Param("packed_x_zero_point", one, self.dot.x if kept else p.dtype),
        ]
        if does.bias or kept:
            found.append(Param("packed_bias", out, "int32", "", channels))
        if kept:
            found += [
                Param("packed_w_zero_point", out, "int32", "", channels),
                Param("packed_w_zero_points_matter", one, "int32"),
            ]
        if does.scaled:
            found += [
                Param("packed_multiplier", out, "float32", "", channels),
                Param("packed_limits", (2,), "float32"), Param("packed_y_zero_point", one, "int32"),
            ]  # fmt: skip
            if does.real:
                found.append(Param("packed_y_scale", one, "float32"))
            if does.residual:
                found += [
                    Param("packed_r_multiplier", one, "float32"),
                    Param("packed_r_zero_point", one, "int32"),
                ]
        return tuple(found)

    def facts(self, exact: bool) -> dict[str, Any]:
        """See ``Algorithm``."""
        return {"algorithm": self.name, "dot": None if self.dot is None else self.dot.name}


@dataclass(frozen=True)
class IntegerSums(_Integers):
    """``of``, an algorithm of floats, over integers; ``lanes``, ``shared``: see ``words.window``; ``flips``:
    ``words.copied``; ``chooses``: whether the schedule chooses, once for several sums, to take nothing off
    them where w has no zero points."""

    of: Sums
    dot: Dot | None = None
    lanes: int = 1
    shared: bool = False
    flips: bool = False
    chooses: bool = False

    @property
    def name(self) -> str:
        """That of ``of``."""
        return self.of.name

    def definition(self, p: Problem, packing: Packing, does: Epilogue) -> tirx.PrimFunc:
        """See ``kernel_func``."""
        copy = self.of.copy(p, self.of.reaches(p, packing))
        return kernel_func(
            p, packing, copy, self.dot, does, self.lanes, self.shared, self.flips, self.chooses
        )


@dataclass(frozen=True)
class IntegerPhases(_Integers):
    """Transposed convolutions phase by phase; ``planes``: as in ``Phases``."""

    planes: bool = False
    dot: Dot | None = None

    def definition(self, p: TransposedProblem, packing: Packing, does: Epilogue) -> tirx.PrimFunc:
        """See ``transposed_func``."""
        return transposed_func(p, packing, self.dot, does, self.planes)


def over_words(of: Sums | PhaseSums, dot: Dot | None, **reads: Any) -> Algorithm:
    """An algorithm of floats over 8-bit integers, in words that ``dot`` multiplies; ``reads``: other fields
    of ``IntegerSums``."""
    if isinstance(of, PhaseSums):
        return IntegerPhases(of.planes, dot)
    return IntegerSums(of, dot, **reads)
