"""The convolution of channels-first arrays over a copy of x that is channels-last: what a tile of pixels
reads of one tap is then a few streams, and not a line of each plane. Its sums are those of ``crossed``.

The copy is of all x, or of what a strip of the output reads, which a core's cache then holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops import crossed
from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, place_of

if TYPE_CHECKING:
    from tvm import te, tirx

    from tvmconv.compiler.ops.conv import Padded


@dataclass(frozen=True)
class TurnedPacking(Packing):
    """Weights as in ``Packing``, and the height of a strip: rows of the output, along its first dimension,
    that are computed from one copy. 0: all, from one of x."""

    strip: int = 0


class _Turned:
    """x, to be read through the stage ``turned``: ``(batch, *spatial, groups, in_group)`` in the type of the
    sums, without the zeros around x; or in strips, ``(batch, strips, rows, *spatial[1:], groups, in_group)``,
    which have some row of x in the place of each row of zeros, that nobody reads."""

    def __init__(self, x: Padded, strip: int) -> None:
        from tvm import te

        self.x, self.strip = x, strip
        p, first = x.p, x.p.spatial[:1]
        if strip:
            first = (-(-p.out_spatial[0] // strip), (strip - 1) * p.stride[0] + p.extent(0))
        shape = (p.batch, *first, *p.spatial[1:], p.groups, p.in_group)
        self.turned = te.compute(shape, self._in_strip if strip else self._whole, name="turned")

    def _whole(self, n, *rest) -> tirx.Expr:
        *spatial, g, i = rest
        return self.x.x(*join(self.x.p, n, g, i, spatial)).astype(self.x.dtype)

    def _in_strip(self, n, number, row, *rest) -> tirx.Expr:
        from tvm import tirx

        p = self.x.p
        at = number * (self.strip * p.stride[0]) + row - p.pad[0][0]
        return self._whole(n, tirx.max(tirx.min(at, p.spatial[0] - 1), 0), *rest)

    def __call__(self, n, g, i, pixel: Sequence, taps: Sequence) -> tirx.Expr:
        """The element of channel i of group g that ``taps`` of an output multiply."""
        from tvmconv.compiler.ops.conv import unpadded

        p = self.x.p
        place = place_of(p, pixel, taps)
        at = unpadded(p, place)
        if self.strip:
            row = pixel[0] % self.strip * p.stride[0] + taps[0] * p.dilation[0]
            at[:1] = [pixel[0] // self.strip, row]
        return self.x.where_inside(place, self.turned(n, *at, g, i))


def sums(p: Problem, packing: TurnedPacking, x: Any, w: te.Tensor) -> Any:
    """See ``crossed.sums``; with the stage ``turned`` before."""
    return crossed.sums_of(p, packing, _Turned(x, packing.strip), w)


ALGORITHM = Sums("turned", sums, TurnedPacking)
