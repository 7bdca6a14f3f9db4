"""The transposed convolution, phase by phase (see ``transposed_problem``), of any rank, in both layouts."""

from __future__ import annotations

from tvm import te, tirx

from tvmconv.ops.casts import narrowed, widened
from tvmconv.ops.conv import channel_array
from tvmconv.ops.epilogue import finished
from tvmconv.ops.placing import with_placed_result
from tvmconv.ops.problem import join, result_index, split
from tvmconv.ops.transposed_problem import TransposedPacking, TransposedProblem


def kernel_func(
    p: TransposedProblem,
    packing: TransposedPacking,
    *,
    bias: bool,
    residual: bool = False,
    activation: str | None,
    out_dtype: str,
    planes: bool,
) -> tirx.PrimFunc:
    """``(x[, residual], packed weights[, bias][, slopes], y)``: stages ``pad`` (where x is padded or
    widened), ``conv``, ``phase``, ``y``.

    All but ``pad`` run over positions and phases: ``conv`` are the sums, ``phase`` a copy that a schedule can
    collect them in, and ``y`` finishes them and puts them where they belong. With ``planes`` positions are
    innermost and x has its zeros around it; else channels are, and what lies outside of x is left out.
    """
    x = te.placeholder(p.x_shape(), p.dtype, name="x")
    w = te.placeholder(packing.shape(p), p.acc_dtype, name="w")
    b = channel_array(p, "b") if bias else None
    residue = te.placeholder(p.result_shape, out_dtype, name="r") if residual else None
    slopes = channel_array(p, "slopes") if activation == "prelu" else None
    rank = len(p.spatial)

    def mixed(n, g, o, q, r):
        return (n, g, o, *q[:-1], *r, q[-1]) if planes else (n, *q, *r, g, o)

    def parts(at):
        if planes:
            n, g, o, *spatial = at
            return n, g, o, (*spatial[: rank - 1], spatial[-1]), tuple(spatial[rank - 1 : -1])
        n, *spatial, g, o = at
        return n, g, o, tuple(spatial[:rank]), tuple(spatial[rank:])

    shape = mixed(p.batch, p.groups, p.out_group, p.positions, p.stride)
    source, shift = _around(p, x, planes)
    steps = [te.reduce_axis((0, count), name=f"j{d}") for d, count in enumerate(p.steps)]
    i = te.reduce_axis((0, p.in_group), name="i")

    def product(*at):
        n, g, o, q, r = parts(at)
        place = [p.source(d, q[d], r[d], steps[d]) for d in range(rank)]
        taps = [p.tap(d, r[d], steps[d]) for d in range(rank)]
        used = _used(p, q, r, taps, None if planes else place)
        value = source(*join(p, n, g, i, [s + lo for s, lo in zip(place, shift, strict=True)]))
        if used:
            value = te.if_then_else(te.all(*used), value, tirx.const(0, p.acc_dtype))
        return te.sum(value * w(*packing.index(p, g, o, tuple(taps), i)), axis=[*steps, i])

    conv = te.compute(shape, product, name="conv")

    phase = te.compute(shape, lambda *at: conv(*at), name="phase")

    def place(at):
        n, g, o, q, r = parts(at)
        spatial = [q[d] * stride + r[d] for d, stride in enumerate(p.stride)]
        return result_index(p, join(p, n, g, o, spatial)), _inside(p, q, r)

    def finish(*at):
        _, g, o, _, _ = parts(at)
        value = finished(
            phase(*at), bias=None if b is None else b(g, o), slope=None if slopes is None else slopes(g, o),
            residual=None if residue is None else widened(residue(*place(at)[0]), p.acc_dtype),
            activation=activation,
        )  # fmt: skip
        return narrowed(value, out_dtype)

    y = te.compute(shape, finish, name="y")
    made = te.create_prim_func([t for t in (x, residue, w, b, slopes, y) if t is not None])
    return with_placed_result(made, p.result_shape, place)


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


def _around(p: TransposedProblem, x: te.Tensor, zeroed: bool) -> tuple[te.Tensor, list[int]]:
    """x as sums are held, with zeros around it if it is to be ``zeroed``, and how far they shift it."""
    zeros = [p.around(d) if zeroed else (0, 0) for d in range(len(p.spatial))]
    shift = [lo for lo, _ in zeros]
    if not p.widened and not any(map(any, zeros)):
        return x, shift

    def value(*at):
        n, g, c, spatial = split(p, at)
        inside = []
        for s, (lo, hi), size in zip(spatial, zeros, p.spatial, strict=True):
            if lo:
                inside.append(s >= lo)
            if hi:
                inside.append(s < lo + size)
        source = x(*join(p, n, g, c, [s - lo for s, lo in zip(spatial, shift, strict=True)]))
        source = source.astype(p.acc_dtype)
        return te.if_then_else(te.all(*inside), source, tirx.const(0, p.acc_dtype)) if inside else source

    padded = tuple(lo + size + hi for size, (lo, hi) in zip(p.spatial, zeros, strict=True))
    return te.compute(p.x_shape(padded), value, name="pad"), shift
