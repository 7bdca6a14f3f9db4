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
    row holds the output channels of one group, or with ``across_groups`` those of all groups. With ``deep``,
    a divisor of in_group, as many input channels of each output channel of the block are contiguous:
    ``[..., in_group / deep, block, deep]``.
    """

    block: int
    across_groups: bool = False
    deep: int = 1

    def dtype(self, p: Problem) -> str:
        """The type of the packed weights, and of x when multiplied by them."""
        return p.acc_dtype

    def shape(self, p: Problem) -> tuple[int, ...]:
        rows, channels = self.rows(p)
        inner = (
            (p.in_group, self.block) if self.deep == 1 else (p.in_group // self.deep, self.block, self.deep)
        )
        return (rows, -(-channels // self.block), *p.kernel, *inner)

    def index(self, p: Problem, g: tirx.Expr, o: tirx.Expr, taps: tuple, i: tirx.Expr) -> tuple:
        """The position of the weight of group g, its output channel o, ``taps``, and its input channel i."""
        from tvm import te

        if self.across_groups:
            g, o = 0, g * p.out_group + o
        block, lane = te.indexdiv(o, self.block), te.indexmod(o, self.block)
        if self.deep == 1:
            return (g, block, *taps, i, lane)
        return (g, block, *taps, te.indexdiv(i, self.deep), lane, te.indexmod(i, self.deep))

    def pack(self, p: Problem, w: te.Tensor) -> te.Tensor:
        """The packed weights, of ``dtype``, from ``w``, the user's OIHW or HWIO array."""
        dtype = self.dtype(p)

        def element(out, taps, i):
            return w(*p.weight_at(out, taps, i)).astype(dtype)

        return self.packed(p, element, dtype)

    def packed(self, p: Problem, element: Callable[[Any, Sequence, Any], Any], dtype: str) -> te.Tensor:
        """The packed weights from ``element(output channel, taps, input channel of the group)``."""
        from tvm import te, tirx

        rows, channels = self.rows(p)

        def value(row, block, *rest):
            taps, (i, lane, *within) = rest[: len(p.kernel)], rest[len(p.kernel) :]
            i = i * self.deep + within[0] if within else i
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
        w = w.take(p.own_channel(np.arange(p.groups * p.out_group)), -1 if p.weights_last else 0)
        if p.weights_last:  # to (rows, channels, *kernel, in_group) both
            w = np.moveaxis(w.reshape(*w.shape[:-1], rows, channels), (-2, -1), (0, 1))
        else:
            w = np.moveaxis(w.reshape(rows, channels, *w.shape[1:]), 2, -1)
        blocks = self.shape(p)[1]
        padded = np.zeros((rows, blocks * self.block, *w.shape[2:]), w.dtype)
        padded[:, :channels] = w
        split = np.moveaxis(padded.reshape(rows, blocks, self.block, *w.shape[2:]), 2, -1)
        if self.deep > 1:
            split = split.reshape(*split.shape[:-2], -1, self.deep, self.block).swapaxes(-2, -1)
        return np.ascontiguousarray(split)

    def rows(self, p: Problem) -> tuple[int, int]:
        """(rows, output channels per row)."""
        return (1, p.groups * p.out_group) if self.across_groups else (p.groups, p.out_group)
