"""The convolution: dense, grouped, depthwise, pointwise, dilated, of any rank, in both layouts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from tvm import te, tirx

from tvmconv.compiler.ops import crossed, im2col, implicit_gemm, panels, tensor_gemm, winograd, winograd_rows
from tvmconv.compiler.ops.casts import narrowed, widened
from tvmconv.compiler.ops.epilogue import finished
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.placing import with_placed_result
from tvmconv.compiler.ops.problem import Problem, join, reach_of, result_index, split
from tvmconv.compiler.ops.transposed_problem import ordinary_weights
from tvmconv.compiler.ops.winograd import WinogradPacking
from tvmconv.compiler.ops.winograd_rows import RowsPacking

WINOGRADS = {"winograd": winograd, winograd_rows.ALGORITHM: winograd_rows}
# Algorithms whose sums have the pixels in one dimension, as ``im2col.flat`` says.
FLAT = {"im2col": im2col.sums, implicit_gemm.ALGORITHM: implicit_gemm.sums, tensor_gemm.ALGORITHM: None,
        panels.ALGORITHM: None}


@lru_cache(maxsize=16)  # what is tuned differs in its schedule for the most part
def kernel_func(
    p: Problem,
    packing: Packing | WinogradPacking | RowsPacking,
    *,
    algorithm: str = "direct",
    bias: bool,
    residual: bool = False,
    activation: str | None,
    out_dtype: str,
) -> tirx.PrimFunc:
    """``(x[, residual], packed weights[, bias][, slopes], y)``: stages ``pad`` (when x is padded or widened),
    ``conv``, ``y``; by the algorithms in ``FLAT`` also ``columns``; by Winograd's also ``patches`` and
    ``products``, and always ``pad``.

    Shapes: x ``p.x_shape()``, weights ``packing.shape(p)``, residual and y ``p.result_shape``, bias and
    slopes (there are some for "prelu") ``(groups, out_group)``.
    """
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    done = im2col.flat(p) if algorithm in FLAT else p  # what y and the weights are shaped for
    dtype = packing.dtype(p)
    w = te.placeholder(packing.shape(done), dtype, name="w")
    b = channel_array(p, "b") if bias else None
    r = te.placeholder(done.result_shape, out_dtype, name="r") if residual else None
    slopes = channel_array(p, "slopes") if activation == "prelu" else None
    shape, place = done.y_shape, lambda at: (split(done, at), [])  # of the result as it is computed
    if algorithm in WINOGRADS:
        own = WINOGRADS[algorithm]
        shape, place = own.y_shape(p, packing), lambda at: own.place(p, packing, at)
        inside = _padded(p, x, own.patch_reach(p, packing), dtype)
        acc = own.sums(p, packing, lambda n, h, w, g, i: inside(n, g, i, (h, w)), w)
    elif algorithm == panels.ALGORITHM:
        shape, place = panels.y_shape(p, packing), lambda at: panels.place(p, packing, at)
        reach = tuple(reach_of(p, d) for d in range(len(p.spatial)))
        acc = panels.sums(p, packing, _padded(p, x, reach, dtype), w)
    else:
        reach = tuple(reach_of(p, d) for d in range(len(p.spatial)))
        padded = padded_copy(p, x, reach, dtype) if p.padded or p.dtype != dtype else x
        if algorithm == tensor_gemm.ALGORITHM:
            shape, place = packing.sums_shape(p), lambda at: packing.place(p, at)
            acc = tensor_gemm.products(p, packing, lambda n, g, i, at: padded(*join(p, n, g, i, at)), w)
        else:
            own = crossed.sums if algorithm == crossed.ALGORITHM else FLAT.get(algorithm, _sums)
            acc = own(p, packing, padded, w)

    def stored(at):
        (n, g, o, spatial), inside = place(at)
        return result_index(done, join(done, n, g, o, spatial)), inside

    def finish(*at):
        (_, g, o, _), _ = place(at)
        value = finished(
            acc(*at), bias=None if b is None else b(g, o),
            residual=None if r is None else widened(r(*stored(at)[0]), p.acc_dtype),
            slope=None if slopes is None else slopes(g, o), activation=activation,
        )  # fmt: skip
        return narrowed(value, out_dtype)

    y = te.compute(shape, finish, name="y")
    func = te.create_prim_func([t for t in (x, r, w, b, slopes, y) if t is not None])
    return with_placed_result(func, done.result_shape, stored) if shape != done.result_shape else func


def prepack_func(
    p: Problem, packing: Packing | WinogradPacking | RowsPacking, *, channel_arrays: tuple[str, ...] = ()
) -> tirx.PrimFunc:
    """``(w, *channel arrays, packed, *packed channel arrays)``: the user's arrays into the ones that
    ``kernel_func`` reads. Those of one value an output channel (bias, slopes) are copied."""
    w = te.placeholder(p.given_weight_shape, p.dtype, name="w")
    packed = packing.pack(p, ordinary_weights(p, w) if p.flipped else w)
    given = [channel_array(p, name, p.dtype) for name in channel_arrays]
    copies = [packed_channels(p, a) for a in given]
    return te.create_prim_func([w, *given, packed, *copies])


def packed_channels(p: Problem, a: te.Tensor) -> te.Tensor:
    """An array of one value an output channel, in the order of computation and the type of the sums."""
    def value(g, o):
        own = p.own_channel(g * p.out_group + o)
        return a(own // p.out_group, own % p.out_group).astype(p.acc_dtype)

    return te.compute(a.shape, value, name=f"packed_{a.op.name}")


def channel_array(p: Problem, name: str, dtype: str | None = None) -> te.Tensor:
    """One value an output channel, of the type that sums have unless ``dtype`` is given."""
    return te.placeholder((p.groups, p.out_group), dtype or p.acc_dtype, name=name)


def conditions_inside(p: Problem, spatial: Sequence, reach: Sequence[int]) -> list:
    """What has to hold for ``spatial``, a place among the ``reach`` padded positions, to be one of x's."""
    inside = []
    for s, (lo, _), size, end in zip(spatial, p.pad, p.spatial, reach, strict=True):
        if lo:
            inside.append(s >= lo)
        if end > lo + size:
            inside.append(s < lo + size)
    return inside


def padded_copy(p: Problem, x: te.Tensor, reach: tuple[int, ...], dtype: str) -> te.Tensor:
    """The stage ``pad``: x as a ``dtype``, with its zeros around it, ``reach`` positions a dimension."""
    value = _padded(p, x, reach, dtype)
    return te.compute(p.x_shape(reach), lambda *at: value(*split(p, at)), name="pad")


def _padded(p: Problem, x: te.Tensor, reach: tuple[int, ...], dtype: str) -> Callable[..., tirx.Expr]:
    """A function of (n, g, c, place among the ``reach`` padded positions): x as a ``dtype``, or zero; that
    also where further conditions don't hold."""
    def value(n, g, c, spatial, conditions=()):
        inside = [*conditions_inside(p, spatial, reach), *conditions]
        source = x(*join(p, n, g, c, [s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)]))
        source = source.astype(dtype)
        return te.if_then_else(te.all(*inside), source, tirx.const(0, dtype)) if inside else source

    return value


def _sums(p: Problem, packing: Packing, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    live = [p.live_taps(d) for d in range(len(p.kernel))]
    axes = [te.reduce_axis((0, len(taps)), name=f"k{d}") for d, taps in enumerate(live)]
    taps = [axis + first.start if first.start else axis for axis, first in zip(axes, live, strict=True)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = split(p, at)
        dims = zip(spatial, p.stride, taps, p.dilation, strict=True)
        source = [s * stride + k * dilation for s, stride, k, dilation in dims]
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(x(*join(p, n, g, i, source)) * weight, axis=[*axes, i])

    return te.compute(p.y_shape, value, name="conv")
