"""Channels-last depthwise convolution: a thread keeps a tile of pixels by a vector of channels, and first
loads the part of x that its outputs read into registers: each element once, with independent loads.

The threads of a block take neighbouring vectors of channels, then neighbouring tiles, so that what tiles
share at their borders is in the multiprocessor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cuda.tiles import divisor, divisors, inline_pad, spread, written_out
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, at_most, require, require_divides, require_within, settled

STRATEGY = "depthwise_last"
_VECTOR = 4  # channels
_MOST_TAPS = 49  # that are written out
_MOST_HELD = 96  # registers for the part of x
_OUTPUTS = ((2, 4), (1, 4), (2, 2), (1, 2), (1, 1))  # rows and pixels a thread, the most work first


def fits(p: Problem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: channels last, as many out as in, few enough taps to unroll."""
    return p.channels_last and p.in_group == 1 and p.out_group == 1 and p.groups > 1 and p.taps <= _MOST_TAPS


def space(p: Problem, machine: GpuMachine) -> Space:
    """Rows, pixels of a row and channels of a thread; whether x is loaded into registers first."""
    return {"rows": at_most(min(_height(p), 4)), "width": at_most(min(p.out_spatial[-1], 8)),
            "channels": divisors(p.groups, _VECTOR), "held": [False, True]}  # fmt: skip


def plan_of(p: Problem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    point = settled(point, _default(p, machine))
    require_within(point, rows=_height(p), width=p.out_spatial[-1], channels=_VECTOR)
    require_divides(point, channels=p.groups)
    sums = point["rows"] * point["width"] * point["channels"]
    require(sums <= 64, point, "width", "at most 64 sums a thread")
    few = not point["held"] or held(p, point) <= 2 * _MOST_HELD
    require(few, point, "held", "less of x than registers hold")
    packing = Packing(point["channels"], across_groups=True)
    return Plan(STRATEGY, ALGORITHM, packing, lambda sch: schedule(sch, p, **point), point)


def held(p: Problem, point: dict[str, Any]) -> int:
    """Elements of x that a thread holds."""
    tile = [1] * (len(p.spatial) - 2) + [point["rows"]] * (len(p.spatial) > 1) + [point["width"]]
    spans = zip(tile, p.stride, p.kernel, p.dilation, strict=True)
    return point["channels"] * prod((t - 1) * s + (k - 1) * d + 1 for t, s, k, d in spans)


def _default(p: Problem, machine: GpuMachine) -> dict[str, Any]:
    """As many outputs per thread as leave each multiprocessor enough threads to hide memory latency."""
    channels = divisor(p.groups, _VECTOR)
    enough = machine.multiprocessors * machine.threads // 4
    for rows, width in _OUTPUTS:
        point = {"rows": min(rows, _height(p)), "width": min(width, p.out_spatial[-1]), "channels": channels}
        point["held"] = held(p, point) <= _MOST_HELD and all(d == 1 for d in p.dilation)
        threads = prod(p.y_shape) // (point["rows"] * point["width"] * channels)
        if threads >= enough and (point["held"] or held(p, {**point, "rows": 1, "width": 1}) > _MOST_HELD):
            break
    return point


def _height(p: Problem) -> int:
    return p.out_spatial[-2] if len(p.spatial) > 1 else 1


def schedule(sch: Schedule, p: Problem, rows: int, width: int, channels: int, held: bool) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if not held:
        inline_pad(sch)
        source = None
    elif p.padded or p.widened:
        source = sch.get_sblock("pad")
    else:
        source = sch.cache_read(conv, 0, "local")
    rank = len(p.spatial)
    n, *outer, x, g, o = sch.get_loops(y)
    go, gi = sch.split(g, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    tile = [xi]
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        outer, tile = [*outer[:-1], ro], [ri, xi]
    order = [n, *outer, xo, go]
    sch.reorder(*order, *tile, gi, o)
    written_out(sch, tile)
    _vector(sch, gi, channels)
    sch.compute_at(conv, go, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixels, group, taps = own[1 : rank + 1], own[rank + 1], own[rank + 3 : -1]
    sch.reorder(*taps, *pixels, group)
    written_out(sch, [*taps, *pixels])
    _vector(sch, group, channels)
    if source is not None:
        sch.compute_at(source, go, preserve_unit_loops=True)
        sch.set_scope(source, 0, "local")
        own = sch.get_loops(source)[-(rank + 3):]
        written_out(sch, own[1 : rank + 1])
        _vector(sch, own[rank + 1], channels)
    sch.decompose_reduction(conv, taps[0])
    spread(sch, order)


def _vector(sch: Schedule, loop, channels: int) -> None:
    if channels > 1:
        sch.vectorize(loop)
