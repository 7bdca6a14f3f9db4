"""A transposed convolution by output phase: the arithmetic that TE definitions and schedules share.

In each spatial dim, output position ``o`` is ``q * stride + r``: position ``q`` of phase ``r``. Before the
crop it lies at ``o + lo``, and tap ``k`` of input ``i`` lands at ``i * stride + k * dilation``. So a phase
sees the taps with ``k * dilation = r + lo`` (modulo the stride) and no others. These are a fixed distance
apart, as are the inputs that they multiply: a phase is an ordinary convolution of stride 1, and the zeros
that a stride puts between inputs are never multiplied.

No TVM in here: weights can be packed into a library without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, canonical
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from tvm import te

TRANSPOSED = "transposed_"  # prefix of the names of strategies that go phase by phase


@dataclass(frozen=True)
class TransposedProblem(Problem):
    """Canonical transposed convolution: arrays as a :class:`Problem` has them, ``pad`` is what is cropped.

    ``weight_shape`` is that of the same weights in an ordinary convolution; ``given_weight_shape`` that of
    the user's array. Methods take a dim and integers or TVM expressions.
    """

    @property
    def family(self) -> str:
        """The strategies that take it: "transposed" or, for 8-bit factors, "integer_transposed"."""
        return "integer_transposed" if super().family == "integer" else "transposed"

    @property
    def macs(self) -> int:
        return self.batch * prod(self.spatial) * self.groups * self.in_group * self.out_group * self.taps

    @property
    def given_weight_shape(self) -> tuple[int, ...]:
        """(in, out/groups, *kernel) channels-first, (*kernel, in, out/groups) channels-last."""
        pair = (self.groups * self.in_group, self.out_group)
        return (*self.kernel, *pair) if self.channels_last else (*pair, *self.kernel)

    @property
    def x_elements(self) -> int:
        return prod(self.x_shape())

    @property
    def weight_elements(self) -> int:
        return prod(self.weight_shape)

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of the longest phase in each dim."""
        return tuple(-(-o // s) for o, s in zip(self.out_spatial, self.stride, strict=True))

    @property
    def steps(self) -> tuple[int, ...]:
        """Taps in each dim of the phase that has the most."""
        return tuple(-(-k // self.tap_step(d)) for d, k in enumerate(self.kernel))

    def tap_step(self, d: int) -> int:
        """How far apart the taps of a phase are."""
        return self.stride[d] // self.common(d)

    def common(self, d: int) -> int:
        """Phases that see any tap are this far apart."""
        return gcd(self.stride[d], self.dilation[d])

    def first_tap(self, d: int, r: Any) -> Any:
        """The first tap of phase r, if it has one."""
        step, common = self.tap_step(d), self.common(d)
        inverse = pow(self.dilation[d] // common, -1, step)
        return (r + self.pad[d][0]) // common * inverse % step

    def tap(self, d: int, r: Any, j: Any) -> Any:
        """Step j's tap of phase r; there is none if it is past the kernel."""
        return self.first_tap(d, r) + j * self.tap_step(d)

    def source(self, d: int, q: Any, r: Any, j: Any) -> Any:
        """The input position that step j of phase r reads at position q."""
        if self.dilation[d] == 1:  # the same, written so that TVM can reason about it
            return q + (r + self.pad[d][0]) // self.stride[d] - j
        ahead = r + self.pad[d][0] - self.first_tap(d, r) * self.dilation[d]
        return q + ahead // self.stride[d] - j * (self.dilation[d] // self.common(d))

    def reach(self, d: int) -> tuple[int, int]:
        """(lowest, highest) input position at q = 0 of any phase and step."""
        found = [self.source(d, 0, r, j) for r in range(self.stride[d]) for j in (0, self.steps[d] - 1)]
        return min(found), max(found)

    def around(self, d: int) -> tuple[int, int]:
        """(low, high) zeros around x with which no phase leaves it."""
        lowest, highest = self.reach(d)
        return max(0, -lowest), max(0, self.positions[d] + highest - self.spatial[d])

    def phase(self) -> Problem:
        """The longest phase as an ordinary convolution."""
        return Problem(
            batch=self.batch, spatial=self.spatial, out_spatial=self.positions, groups=self.groups,
            in_group=self.in_group, out_group=self.out_group, kernel=self.steps,
            stride=(1,) * len(self.spatial), pad=tuple(map(self.around, range(len(self.spatial)))),
            dilation=tuple(dil // self.common(d) for d, dil in enumerate(self.dilation)),
            channels_last=self.channels_last, dtype=self.dtype,
        )  # fmt: skip


def transposed_problem_of(spec: ConvSpec) -> TransposedProblem:
    """The canonical problem of a transposed ``spec``; a batch of 0 is taken as 1."""
    return TransposedProblem(**canonical(spec))


def flipped_problem_of(spec: ConvSpec) -> Problem | None:
    """The ordinary convolution equal to a transposed ``spec`` of stride 1, with the taps reversed; None for
    others, and if more is cropped than padding can make up for."""
    if not spec.transposed or any(s > 1 for s in spec.stride):
        return None
    fields = canonical(spec)
    pad = []
    columns = ("spatial", "out_spatial", "kernel", "dilation", "pad")
    for size, out, k, dilation, (lo, _) in zip(*(fields[name] for name in columns), strict=True):
        reach = dilation * (k - 1)
        pad.append((reach - lo, out - size + lo))
    if any(side < 0 for sides in pad for side in sides):
        return None
    return Problem(**{**fields, "pad": tuple(pad)}, flipped=True)


class _AsConvolution:
    """A transposed convolution's weights, read by the index of an ordinary one's."""

    def __init__(self, p: Problem, w: te.Tensor) -> None:
        self.p, self.w, self.dtype = p, w, w.dtype

    def __call__(self, *at: Any) -> Any:
        p = self.p
        if p.channels_last:
            *taps, i, out = at
        else:
            out, i, *taps = at
        if p.flipped:
            taps = [size - 1 - k for k, size in zip(taps, p.kernel, strict=True)]
        pair = (out // p.out_group * p.in_group + i, out % p.out_group)
        return self.w(*taps, *pair) if p.channels_last else self.w(*pair, *taps)


def ordinary_weights(p: Problem, w: te.Tensor) -> Any:
    """The user's weights of ``p``, transposed or not, read by the index of an ordinary convolution's."""
    return _AsConvolution(p, w) if p.flipped or isinstance(p, TransposedProblem) else w


def ordinary_array(p: Problem, w: np.ndarray) -> np.ndarray:
    """What ``ordinary_weights`` reads, in NumPy, of ``p.weight_shape``."""
    w = w.reshape(p.given_weight_shape)
    if p.flipped:
        w = np.flip(w, tuple(range(len(p.kernel)) if p.channels_last else range(2, w.ndim)))
    if p.channels_last:
        plain = np.moveaxis(w.reshape(*p.kernel, p.groups, p.in_group, p.out_group), -2, -3)
    else:
        plain = np.swapaxes(w.reshape(p.groups, p.in_group, p.out_group, *p.kernel), 1, 2)
    return np.ascontiguousarray(plain).reshape(p.weight_shape)


class TransposedPacking(Packing):
    """``Packing`` from the weights of a transposed convolution; tap k stays tap k."""

    def pack(self, p: TransposedProblem, w: te.Tensor) -> te.Tensor:
        return super().pack(p, ordinary_weights(p, w))

    def pack_array(self, p: TransposedProblem, w: np.ndarray) -> np.ndarray:
        return super().pack_array(p, ordinary_array(p, w))
