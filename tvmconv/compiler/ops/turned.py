"""The convolution of channels-first arrays over a copy of x that is channels-last: what a tile of pixels
reads of one tap is then a few streams, and not a line of each plane. Its sums are those of ``crossed``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tvmconv.compiler.ops import crossed
from tvmconv.compiler.ops.algorithm import Sums
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, join, split

if TYPE_CHECKING:
    from tvm import te, tirx

    from tvmconv.compiler.ops.conv import Padded


class _Turned:
    """``padded``, to be read through the stage ``turned``: ``(batch, *spatial, groups, in_group)`` in the
    type of the sums, without the zeros around x."""

    def __init__(self, padded: Padded) -> None:
        self.padded = padded

    def copy(self) -> Callable[..., tirx.Expr]:
        """See ``conv.Padded``; a function of an index."""
        from tvm import te, tirx

        from tvmconv.compiler.ops.conv import conditions_inside

        padded, p = self.padded, self.padded.p

        def element(n, *rest):
            *spatial, g, i = rest
            return padded.x(*join(p, n, g, i, spatial)).astype(padded.dtype)

        turned = te.compute((p.batch, *p.spatial, p.groups, p.in_group), element, name="turned")

        def read(*at):
            n, g, i, spatial = split(p, at)
            value = turned(n, *(s - lo for s, (lo, _) in zip(spatial, p.pad, strict=True)), g, i)
            inside = conditions_inside(p, spatial, padded.reach)
            return te.if_then_else(te.all(*inside), value, tirx.const(0, padded.dtype)) if inside else value

        return read


def sums(p: Problem, packing: Packing, x: Any, w: te.Tensor):
    """See ``crossed.sums``; with the stage ``turned`` before."""
    return crossed.sums(p, packing, _Turned(x), w)


ALGORITHM = Sums("turned", sums)
