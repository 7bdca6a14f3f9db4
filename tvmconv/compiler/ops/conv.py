"""The convolution of floats: dense, grouped, depthwise, pointwise, dilated, of any rank, in both layouts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from tvm import te, tirx

from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.compiler.ops.epilogue import finished
from tvmconv.compiler.ops.placing import with_placed_result
from tvmconv.compiler.ops.problem import Problem, join, result_index, split
from tvmconv.compiler.ops.transposed_problem import ordinary_weights

if TYPE_CHECKING:
    from tvmconv.compiler.ops.algorithm import Epilogue, Sums


@lru_cache(maxsize=16)  # tuned kernels mostly differ only in their schedules
def kernel_func(algorithm: Sums, p: Problem, packing: Any, does: Epilogue) -> tirx.PrimFunc:
    """``(x[, residual], packed weights[, bias][, slopes], y)``: stages ``pad`` (when x is padded or widened),
    ``conv``, ``y``, and those that the algorithm has between.

    Shapes: ``algorithm.shapes(p)``, weights ``packing.shape`` for the problem that it sees.
    """
    done = algorithm.seen(p)  # what y and the weights are shaped for
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(done), packing.dtype(p), name="w")
    b = channel_array(p, "b") if does.bias else None
    r = te.placeholder(done.result_shape, does.out_dtype, name="r") if does.residual else None
    slopes = channel_array(p, "slopes") if does.slopes else None
    padded = Padded(p, x, algorithm.reaches(p, packing), packing.dtype(p))
    acc = algorithm.sums(p, packing, padded, w)

    def stored(at):
        (n, g, o, spatial), inside = algorithm.placed(p, packing, at)
        return result_index(done, join(done, n, g, o, spatial)), inside

    def finish(*at):
        (_, g, o, _), _ = algorithm.placed(p, packing, at)
        value = finished(
            acc(*at), bias=None if b is None else b(g, o),
            residual=None if r is None else widened(r(*stored(at)[0]), p.acc_dtype),
            slope=None if slopes is None else slopes(g, o), activation=does.activation,
        )  # fmt: skip
        return narrowed(value, does.out_dtype)

    shape = algorithm.sums_shape(p, packing)
    y = te.compute(shape, finish, name="y")
    func = te.create_prim_func([t for t in (x, r, w, b, slopes, y) if t is not None])
    return with_placed_result(func, done.result_shape, stored) if shape != done.result_shape else func


def prepack_func(p: Problem, packing: Any, *, channel_arrays: tuple[str, ...] = ()) -> tirx.PrimFunc:
    """``(w, *channel arrays, packed, *packed channel arrays)``: the user's arrays into the ones that
    ``kernel_func`` reads. Those with one value per output channel (bias, slopes) are copied."""
    w = te.placeholder(p.given_weight_shape, p.dtype, name="w")
    packed = packing.pack(p, ordinary_weights(p, w) if p.flipped else w)
    given = [channel_array(p, name, p.dtype) for name in channel_arrays]
    copies = [packed_channels(p, a) for a in given]
    return te.create_prim_func([w, *given, packed, *copies])


def packed_channels(p: Problem, a: te.Tensor) -> te.Tensor:
    """An array with one value per output channel, in the order of computation and the type of the sums."""
    def value(g, o):
        own = p.own_channel(g * p.out_group + o)
        return a(own // p.out_group, own % p.out_group).astype(p.acc_dtype)

    return te.compute(a.shape, value, name=f"packed_{a.op.name}")


def channel_array(p: Problem, name: str, dtype: str | None = None) -> te.Tensor:
    """One value per output channel, of the sums' type unless ``dtype`` is given."""
    return te.placeholder((p.groups, p.out_group), dtype or p.acc_dtype, name=name)


def live_axes(p: Problem) -> tuple[list, list]:
    """(reduction axes, tap of each): those of the taps that do not see padding alone."""
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    axes = [te.reduce_axis((0, len(taps)), name=f"k{d}") for d, taps in enumerate(live)]
    return axes, [axis + taps.start if taps.start else axis for axis, taps in zip(axes, live, strict=True)]


def unpadded(p: Problem, place: Sequence) -> list:
    """The index into x along each dimension of a padded ``place``."""
    return [s - lo for s, (lo, _) in zip(place, p.pad, strict=True)]


def where_inside(
    p: Problem, place: Sequence, reach: Sequence[int], value: tirx.Expr, outside: tirx.Expr,
    conditions: Sequence[tirx.Expr] = (),
) -> tirx.Expr:  # fmt: skip
    """``value`` if ``place``, one of the ``reach`` padded positions, is inside x and ``conditions`` hold;
    else ``outside``."""
    inside = []
    for s, (lo, _), size, end in zip(place, p.pad, p.spatial, reach, strict=True):
        if lo:
            inside.append(s >= lo)
        if end > lo + size:
            inside.append(s < lo + size)
    inside += conditions
    return te.if_then_else(te.all(*inside), value, outside) if inside else value


class Padded:
    """x as ``dtype`` with its zeros around it, ``reach`` positions per dimension."""

    def __init__(self, p: Problem, x: te.Tensor, reach: tuple[int, ...], dtype: str) -> None:
        self.p, self.x, self.reach, self.dtype = p, x, reach, dtype

    def __call__(self, n, g, c, spatial: Sequence, conditions: Sequence[tirx.Expr] = ()) -> tirx.Expr:
        """Input channel c of group g at one of those positions; zero also where a condition doesn't hold."""
        source = self.x(*join(self.p, n, g, c, unpadded(self.p, spatial))).astype(self.dtype)
        return self.where_inside(spatial, source, conditions)

    def where_inside(
        self, place: Sequence, value: tirx.Expr, conditions: Sequence[tirx.Expr] = ()
    ) -> tirx.Expr:
        """``value`` if ``place`` is inside x and ``conditions`` hold, else 0."""
        return where_inside(self.p, place, self.reach, value, tirx.const(0, self.dtype), conditions)

    def copy(self) -> te.Tensor:
        """All of it, in the layout of ``p``, as the stage ``pad``; x itself if that is the same."""
        p = self.p
        if not p.padded and p.dtype == self.dtype:
            return self.x
        return te.compute(p.x_shape(self.reach), lambda *at: self(*split(p, at)), name="pad")
