"""Channels-last convolution of 8-bit integers in words, in many groups of few channels: vectors hold the
output channels of several groups, and the words of x that these take come by one load, shuffled.

What is loaded and shuffled is used for all the taps and pixels of a register tile that see it. x is copied
with its padding, so there are no borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.integer import over_words
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.words import copied, shifts
from tvmconv.schedules.cpu.tiles import across_groups, evenly, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.cpu.words_last import copy_words, shares_columns
from tvmconv.schedules.cpu.words_last import dot_of as widest_of
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    require,
    require_block,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "group_words_last"
_WRITTEN_OUT = 4  # dot products per register in a row of taps; with more, LLVM loads far ahead and spills


def dot_of(p: Problem, machine: Machine) -> Dot | None:
    """The widest dot product whose words are full, for x is then copied by whole vectors; or else the widest
    whose words are more than half full."""
    full = [DOTS[name] for name in machine.int8_dots if p.in_group % DOTS[name].size == 0]
    return max(full, key=lambda dot: dot.size, default=None) or widest_of(p, machine)


def fits(p: Problem, machine: Machine) -> bool:
    return across_groups(p, machine) and dot_of(p, machine) is not None


def space(p: Problem, machine: Machine) -> Space:
    lanes, channels = _lanes(p, machine), p.groups * p.out_group
    return {
        "width": list(range(1, min(p.out_spatial[-1], machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, channels) for v in range(1, 5)}),
        "taps": [0, 1],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels and channels of the register tile; innermost dims of taps unrolled.
    Raises ValueError where it does not fit."""
    dot, lanes, channels = dot_of(p, machine), _lanes(p, machine), p.groups * p.out_group
    assert dot is not None  # for it fits
    # The others hold weights of a row of taps, what is loaded ahead, and products that are still to be added.
    vectors = min(2, -(-channels // lanes)) if dot.adds and machine.avx512 else 1
    width = evenly(p.out_spatial[-1], (machine.vector_registers // 2 - 2 * (not dot.adds)) // vectors)
    default = {"width": width, "block": min(vectors * lanes, channels),
               "taps": int(p.kernel[-1] * width * vectors <= _WRITTEN_OUT * machine.vector_registers)}
    point = settled(point, default)
    require_within(point, width=p.out_spatial[-1])
    require_block(point, lanes, channels)
    require_registers(point, "width", point["width"] * -(-point["block"] // lanes), machine.vector_registers)
    require(point["taps"] <= 1, point, "taps", "0 or 1")
    algorithm = over_words(ALGORITHM, dot, shared=_shares(p, point["width"]))
    packing = Packing(point["block"], across_groups=True)
    return Plan(STRATEGY, algorithm, packing, lambda sch: schedule(sch, p, machine, **point), point)


def _lanes(p: Problem, machine: Machine) -> int:
    """Whole groups to a vector, so that each lane's word is at a fixed distance from the first one's."""
    return machine.lanes() // p.out_group * p.out_group


def schedule(sch: Schedule, p: Problem, machine: Machine, width: int, block: int, taps: int) -> None:
    dot, lanes, rank = dot_of(p, machine), _lanes(p, machine), len(p.spatial)
    assert dot is not None
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if copied(p, dot):
        copy_words(sch, p, dot, machine)
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    co, ci = sch.split(sch.fuse(g, o), [None, block], preserve_unit_iters=True)
    sch.reorder(n, *outer, co, xo, xi, ci)
    peel_tail(sch, xo, p.out_spatial[-1], width)
    peel_tail(sch, co, p.groups * p.out_group, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, co] if outer else [n, co, xo])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, group, channel = own[rank], own[rank + 1], own[rank + 2]
    offsets, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, sch.fuse(group, channel), lanes, block)
    looped, written = offsets[: len(offsets) - taps], offsets[len(offsets) - taps :]
    summed = [*looped, i, *written]
    sch.reorder(*summed, pixel, vec, lane)
    for loop in (pixel, *written):
        sch.unroll(loop)
    sch.decompose_reduction(conv, summed[0])
    if shifts(dot):
        _windows(sch, xo, p, machine, _shares(p, width))


def _shares(p: Problem, width: int) -> bool:
    """Whether windows share columns: few enough to make up for adding them up, for those of groups are not
    contiguous."""
    return shares_columns(p, width, times=2)


def _windows(sch: Schedule, place, p: Problem, machine: Machine, shared: bool) -> None:
    """Compute the sums over windows in ``place``, for its own outputs, those of several groups at a time."""
    for name in ("window", "column") if shared else ("window",):
        block = sch.get_sblock(name)
        sch.compute_at(block, place, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        reduced = 1 if name == "window" and shared else len(p.spatial) + 1 - shared
        *_, pixel, group, _ = (loops := sch.get_loops(block))[:-reduced]
        summed = loops[-reduced:]
        vec, lane = vector_tile(sch, group, machine.lanes(), int(sch.get(group).extent))
        sch.reorder(*summed, pixel, vec, lane)
        sch.decompose_reduction(block, summed[0])
