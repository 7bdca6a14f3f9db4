"""Layouts of prepacked weights. A schedule names one; the compute definition reads through it.

TVM is imported where it is used, so that weights can be packed into a library without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.compiler.ops.problem import Problem

if TYPE_CHECKING:
    from tvm import te, tirx


@dataclass(frozen=True)
class Packing:
    """The layout of weights in a kernel: one load fetches those of ``block`` output channels.

    ``[rows, ceil(channels / block), *kernel, in_group, block]``, the last block of a row padded with zeros. A
    row holds the output channels of one group, or with ``across_groups`` those of all groups.
    """

    block: int
    across_groups: bool = False

    def dtype(self, p: Problem) -> str:
        """The type of the packed weights, and of x when multiplied by them."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        rows, channels = self.rows(p)
        return (rows, -(-channels // self.block), *p.kernel, p.in_group, self.block)

    def index(self, p: Problem, g: tirx.Expr, o: tirx.Expr, taps: tuple, i: tirx.Expr) -> tuple:
        """The position of the weight of group g, its output channel o, ``taps``, and its input channel i."""
        from tvm import te

        if self.across_groups:
            g, o = 0, g * p.out_group + o
        return (g, te.indexdiv(o, self.block), *taps, i, te.indexmod(o, self.block))

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights, of ``dtype``, from ``w``, the user's OIHW or HWIO array."""
        dtype = self.dtype(p)

        def element(out, taps, i):
            return (w(*taps, i, out) if p.channels_last else w(out, i, *taps)).astype(dtype)

        return self.packed(p, element, dtype)

    def packed(self, p: Problem, element: Callable[[Any, Sequence, Any], Any], dtype: str) -> te.Tensor:
        """The packed weights from ``element(output channel, taps, input channel of the group)``."""
        from tvm import te, tirx

        rows, channels = self.rows(p)

        def value(row, block, *rest):
            *taps, i, lane = rest
            at = block * self.block + lane
            found = element(p.own_channel(row * channels + at if rows > 1 else at), taps, i)
            if channels % self.block == 0:
                return found
            return te.if_then_else(at < channels, found, tirx.const(0, dtype))

        return te.compute(self.shape(p), value, name="packed")

    def pack_array(self, p: Problem, w: np.ndarray) -> np.ndarray:
        """What ``pack`` computes, in NumPy."""
        rows, channels = self.rows(p)
        w = w.reshape(p.weight_shape)
        w = w.take(p.own_channel(np.arange(p.groups * p.out_group)), -1 if p.channels_last else 0)
        if p.channels_last:  # to (rows, channels, *kernel, in_group) both
            w = np.moveaxis(w.reshape(*w.shape[:-1], rows, channels), (-2, -1), (0, 1))
        else:
            w = np.moveaxis(w.reshape(rows, channels, *w.shape[1:]), 2, -1)
        blocks = self.shape(p)[1]
        padded = np.zeros((rows, blocks * self.block, *w.shape[2:]), w.dtype)
        padded[:, :channels] = w
        split = padded.reshape(rows, blocks, self.block, *w.shape[2:])
        return np.ascontiguousarray(np.moveaxis(split, 2, -1))

    def rows(self, p: Problem) -> tuple[int, int]:
        """(rows, output channels per row)."""
        return (1, p.groups * p.out_group) if self.across_groups else (p.groups, p.out_group)
