"""Layouts of prepacked weights. A schedule names one; the compute definition reads through it.

TVM is imported where it is used, so that weights can be packed into a library without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.ops.problem import Problem

if TYPE_CHECKING:
    from tvm import te, tirx


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
        from tvm import te

        if self.kind == "by_tap":
            return (*taps, o, g)
        return (g, te.indexdiv(o, self.block), *taps, i, te.indexmod(o, self.block))

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights from ``w``, the user's OIHW or HWIO array."""
        from tvm import te, tirx

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

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        w = w.reshape(p.weight_shape)
        if p.channels_last:  # to (groups, out_group, *kernel, in_group) both
            w = np.moveaxis(w.reshape(*w.shape[:-1], p.groups, p.out_group), (-2, -1), (0, 1))
        else:
            w = np.moveaxis(w.reshape(p.groups, p.out_group, *w.shape[1:]), 2, -1)
        if self.kind == "by_tap":
            return np.ascontiguousarray(np.moveaxis(w[..., 0], (1, 0), (-2, -1)))
        blocks = self.shape(p)[1]
        padded = np.zeros((p.groups, blocks * self.block, *w.shape[2:]), w.dtype)
        padded[:, : p.out_group] = w
        split = padded.reshape(p.groups, blocks, self.block, *w.shape[2:])
        return np.ascontiguousarray(np.moveaxis(split, 2, -1))
