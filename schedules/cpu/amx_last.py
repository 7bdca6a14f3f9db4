"""Channels-last convolution of 8-bit integers by AMX, whose instructions multiply a tile of 16 pixels by 64
input channels with one of these by 16 output channels: what ``words_last`` is for vectors."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.lower.amx import COLUMNS, DEPTH, ROWS, TILE, TILES
from tvmconv.compiler.lower.chosen_once import ONCE
from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.integer import over_words
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.words import copied, in_words
from tvmconv.schedules.cpu.asking import ask_for_next
from tvmconv.schedules.cpu.tiles import (
    across_groups,
    divisor,
    evenly,
    height,
    peel_strips,
    peel_tail,
    run_parallel,
    vector_tile,
)
from tvmconv.schedules.cpu.words_last import copy_words, window_lanes, windows
from tvmconv.schedules.dots import AMX, DOTS, Dot
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, require, require_within, settled

STRATEGY = "amx_last"
SIDE = 16  # the most rows of a tile, and words in each
SUMS = 4  # tiles of sums; the other four registers are for their factors
_PARTS = 16  # of a core's second cache, of which weights that are asked for take one at least
_WORTH, _FEWEST = 64, 12  # words in a tile of x, and in a sum: vectors are as fast with fewer
# At most so many tasks, of at least so many multiply-adds if there are more than two: results of each one's
# last tiles are made beside nothing.
_TASKS, _TASK = 64, 1 << 22


def dot_of(p: Problem) -> Dot:
    """That for x as it is; weights are shifted to match."""
    return DOTS[f"{AMX}{'u' if p.dtype == 'uint8' else 's'}sd"]


def fits(p: Problem, machine: Machine) -> bool:
    return machine.amx and p.channels_last and not across_groups(p, machine)


def pays(p: Problem, machine: Machine) -> bool:
    """If there is enough to do for each tile of sums, beside storing it."""
    return are_full(p, _rows(p), _WORTH, _FEWEST)


def are_full(p: Problem, pixels: int, worth: int, fewest: int) -> bool:
    """Whether tiles of so many pixels hold at least ``worth`` words of x and half as many output channels as
    they might, and sums have at least ``fewest`` words."""
    words = in_words(p, dot_of(p)).in_group * p.taps
    return pixels * depth(p) >= worth and 2 * p.out_group >= SIDE and words >= fewest


def require_sums(p: Problem, point: Mapping[str, Any]) -> None:
    """Raise ValueError unless "block" is whole tiles, or all channels, and there are registers for all tiles
    of sums."""
    require(point["block"] % SIDE == 0 or point["block"] == p.out_group, point, "block",
            f"a multiple of {SIDE} up to {p.out_group}")
    sums = point["across"] * point["high"] * -(-point["block"] // SIDE)
    require(1 <= sums <= SUMS, point, "across", f"1 to {SUMS} tiles of sums")


def space(p: Problem, machine: Machine) -> Space:
    default = plan_of(p, machine).point
    return {
        "rows": sorted({evenly(p.out_spatial[-1], most) for most in (8, 12, 14, 16)}),
        "across": [1, 2, 4],
        "high": [1, 2, 4] if len(p.spatial) > 1 else [1],
        "block": sorted({min(n * SIDE, p.out_group) for n in range(1, 5)}),
        "strip": sorted({1, 2, 4, 8, default["strip"]}),
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels of a tile; tiles side by side, and rows of the image, whose sums are
    made together for ``block`` channels; as many of those to a task. Raises ValueError where it does not
    fit."""
    dot = dot_of(p)
    rows, blocks = _rows(p), -(-p.out_group // SIDE)
    # Weights of many channels, if the first cache keeps them, for one tile of x after the other.
    panel = SUMS * SIDE * 4 * in_words(p, dot).in_group * p.taps
    wide = min(SUMS if 3 * panel <= 2 * machine.l1 else 2, blocks)
    along = -(-p.out_spatial[-1] // rows)
    across = min(SUMS // wide, along)
    high = min(SUMS // wide // across, height(p))
    default = {"rows": rows, "across": across, "high": high, "block": min(wide * SIDE, p.out_group),
               "strip": strip_of(p, rows * across, high, wide * SIDE)}
    point = settled(point, default)
    require_within(point, rows=min(SIDE, p.out_spatial[-1]), high=height(p), block=p.out_group,
                   strip=p.out_spatial[-1] * height(p))  # fmt: skip
    require_sums(p, point)
    algorithm = over_words(ALGORITHM, dot, lanes=window_lanes(p, machine, dot), chooses=True)
    packing = Packing(point["block"])
    return Plan(STRATEGY, algorithm, packing, lambda sch: schedule(sch, p, machine, **point), point)


def _rows(p: Problem) -> int:
    """Pixels of a tile."""
    return evenly(p.out_spatial[-1], SIDE)


def depth(p: Problem) -> int:
    """Words of a tile: a divisor of those of a group."""
    return divisor(in_words(p, dot_of(p)).in_group, SIDE)


def strip_of(p: Problem, width: int, high: int, block: int) -> int:
    """Rows of tiles, or in one dim tiles, to a task."""
    tiles = -(-p.out_spatial[-2] // high) if len(p.spatial) > 1 else -(-p.out_spatial[-1] // width)
    others = p.batch * p.groups * prod(p.out_spatial[:-2]) * -(-p.out_group // block)
    tasks = min(_TASKS, max(2, p.macs // _TASK))
    strip = -(-tiles // max(1, tasks // others))
    # A shorter last strip is code of its own, and ends what follows one another.
    return next((size for size in range(strip, 2 * strip) if tiles % size == 0), strip)


def asks(p: Problem, machine: Machine, block: int) -> bool:
    """Whether to ask for the next block of weights while all tiles use one: products are made faster than
    memory sends even few weights."""
    return _PARTS * p.taps * p.in_group * p.groups * p.out_group >= machine.l2 and block < p.out_group


def schedule(
    sch: Schedule, p: Problem, machine: Machine, rows: int, across: int, high: int, block: int, strip: int
) -> None:
    dot, rank, width = dot_of(p), len(p.spatial), rows * across
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if copied(p, dot):
        copy_words(sch, p, dot, machine)
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    peel_tail(sch, oo, p.out_group, block)
    if outer:
        ro, ri = sch.split(outer.pop(), [None, high], preserve_unit_iters=True)
        task, ro = sch.split(ro, [None, strip], preserve_unit_iters=True)
        peel_strips(sch, task, ro, p.out_spatial[-2], high, strip)
        peel_tail(sch, xo, p.out_spatial[-1], width)
        inside = [ro, xo, ri, xi]
    else:
        task, xo = sch.split(xo, [None, strip], preserve_unit_iters=True)
        peel_strips(sch, task, xo, p.out_spatial[-1], width, strip)
        inside = [xo, xi]
    tasks = [n, g, oo, *outer, task]
    sch.reorder(*tasks, *inside, oi)
    vector_tile(sch, oi, machine.lanes(), block)
    sch.annotate(inside[len(inside) // 2], ONCE, 1)  # the loops over the outputs of a tile
    run_parallel(sch, p, tasks)
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 2]
    taps, i = own[rank + 3 : -1], own[-1]
    part, one = sch.split(pixel, [None, rows], preserve_unit_iters=True)
    vec, lane = sch.split(channel, [None, SIDE], preserve_unit_iters=True)
    io, word = sch.split(i, [None, depth(p)], preserve_unit_iters=True)
    row = own[rank - 1] if rank > 1 else part
    sch.reorder(*taps, io, row, *([part] if rank > 1 else []), vec, one, lane, word)
    if asks(p, machine, block):
        panel = p.taps * in_words(p, dot).in_group * block
        ask_for_next(sch, outer[0] if outer else task, io, panel)
    sch.annotate(taps[0], TILES, dot.name)
    for loop, role in ((one, ROWS), (lane, COLUMNS), (word, DEPTH)):
        sch.annotate(loop, TILE, role)
    sch.decompose_reduction(conv, taps[0])
    windows(sch, xo, p, machine, dot, shared=False)
