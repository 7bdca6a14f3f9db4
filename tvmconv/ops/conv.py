"""The convolution: dense, grouped, depthwise, pointwise, dilated, of any rank, in both layouts."""

from __future__ import annotations

from tvm import te, tirx

from tvmconv.ops.epilogue import activate
from tvmconv.ops.packing import Packing
from tvmconv.ops.problem import Problem


def kernel_func(p: Problem, packing: Packing, *, bias: bool, activation: str | None) -> tirx.PrimFunc:
    """``(x, packed weights[, bias], y)``: stages ``pad`` (when there is padding), ``conv``, ``y``.

    Shapes: ``p.x_shape()``, ``packing.shape(p)``, ``(groups, out_group)``, ``p.y_shape``.
    """
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(p), p.dtype, name="w")
    b = te.placeholder((p.groups, p.out_group), p.dtype, name="b") if bias else None
    acc = _sums(p, packing, _pad(p, x), w)

    def finish(*at):
        value = acc(*at)
        if b is not None:
            _, g, o, _ = _split(p, at)
            value = value + b(g, o)
        return activate(value, activation)

    y = te.compute(p.y_shape, finish, name="y")
    return te.create_prim_func([t for t in (x, w, b, y) if t is not None])


def prepack_func(p: Problem, packing: Packing, *, bias: bool) -> tirx.PrimFunc:
    """``(w[, bias], packed[, packed bias])``: the user's arrays into the ones that ``kernel_func`` reads."""
    w = te.placeholder(p.weight_shape, p.dtype, name="w")
    packed = packing.pack(p, w)
    if not bias:
        return te.create_prim_func([w, packed])
    b = te.placeholder((p.groups, p.out_group), p.dtype, name="b")
    copy = te.compute(b.shape, lambda g, o: b(g, o), name="packed_bias")
    return te.create_prim_func([w, b, packed, copy])


def _split(p: Problem, at: tuple) -> tuple:
    """(batch, group, channel of the group, spatial) of an index into x or y."""
    if p.channels_last:
        n, *spatial, g, c = at
    else:
        n, g, c, *spatial = at
    return n, g, c, tuple(spatial)


def _join(p: Problem, n, g, c, spatial) -> tuple:
    return (n, *spatial, g, c) if p.channels_last else (n, g, c, *spatial)


def _reach(p: Problem, d: int) -> int:
    """How many positions of the padded dimension d any output looks at (a stride can leave some over)."""
    return (p.out_spatial[d] - 1) * p.stride[d] + (p.kernel[d] - 1) * p.dilation[d] + 1


def _pad(p: Problem, x: te.Tensor) -> te.Tensor:
    """x with its zeros around it; x itself when there are none."""
    if not p.padded:
        return x

    def value(*at):
        n, g, c, spatial = _split(p, at)
        inside = []
        for d, (s, (lo, _)) in enumerate(zip(spatial, p.pad, strict=True)):
            if lo:
                inside.append(s >= lo)
            if _reach(p, d) > lo + p.spatial[d]:
                inside.append(s < lo + p.spatial[d])
        source = x(*_join(p, n, g, c, [s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)]))
        return te.if_then_else(te.all(*inside), source, tirx.const(0, p.dtype)) if inside else source

    reach = tuple(_reach(p, d) for d in range(len(p.spatial)))
    return te.compute(p.x_shape(reach), value, name="pad")


def _sums(p: Problem, packing: Packing, x: te.Tensor, w: te.Tensor) -> te.Tensor:
    taps = [te.reduce_axis((0, k), name=f"k{d}") for d, k in enumerate(p.kernel)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def value(*at):
        n, g, o, spatial = _split(p, at)
        dims = zip(spatial, p.stride, taps, p.dilation, strict=True)
        source = [s * stride + k * dilation for s, stride, k, dilation in dims]
        weight = w(*packing.index(p, g, o, tuple(taps), i))
        return te.sum(x(*_join(p, n, g, i, source)) * weight, axis=[*taps, i])

    return te.compute(p.y_shape, value, name="conv")
