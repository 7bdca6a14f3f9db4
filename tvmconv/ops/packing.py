"""Layouts of prepacked weights. A schedule names one; the compute definition reads through it."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import te, tirx

from tvmconv.ops.problem import Problem


@dataclass(frozen=True)
class Packing:
    """How the weights lie while the kernel runs.

    ``blocked``: ``[groups, ceil(out_group / block), *kernel, in_group, block]``, the last block filled with
    zeros, so that one load brings the weights of ``block`` output channels. ``by_tap``:
    ``[*kernel, out_group, groups]``, for depthwise kernels that run over groups.
    """

    kind: str
    block: int = 1

    def shape(self, p: Problem) -> tuple[int, ...]:
        if self.kind == "by_tap":
            return (*p.kernel, p.out_group, p.groups)
        return (p.groups, -(-p.out_group // self.block), *p.kernel, p.in_group, self.block)

    def index(self, g: tirx.Expr, o: tirx.Expr, taps: tuple, i: tirx.Expr) -> tuple:
        """Where the weight of group g, output channel o of it, ``taps``, input channel i of it lies."""
        if self.kind == "by_tap":
            return (*taps, o, g)
        return (g, te.indexdiv(o, self.block), *taps, i, te.indexmod(o, self.block))

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array."""

        def natural(g, o, taps, i):
            out = g * p.out_group + o
            return w(*taps, i, out) if p.channels_last else w(out, i, *taps)

        def by_tap(*at):
            *taps, o, g = at
            return natural(g, o, taps, 0)

        def blocked(g, block, *rest):
            *taps, i, lane = rest
            o = block * self.block + lane
            if p.out_group % self.block == 0:
                return natural(g, o, taps, i)
            return te.if_then_else(o < p.out_group, natural(g, o, taps, i), tirx.const(0, w.dtype))

        return te.compute(self.shape(p), by_tap if self.kind == "by_tap" else blocked, name="packed")
