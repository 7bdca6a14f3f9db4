"""Channels-last convolution in many groups, above all depthwise: vectors hold the output channels of several
groups, a register tile is pixels by vectors, and there is no padded copy.

Each input vector of the tile is loaded once for all the taps and pixels that use it. Tiles at a border of the
image have separate code, so that the others have no conditions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem, reach_of
from tvmconv.schedules.cpu.group_tiles import LARGE, ORDERS, WALKS, order_of, rows_of, tile_of, walk_of
from tvmconv.schedules.cpu.tiles import (
    across_groups,
    border_tiles,
    height,
    peel_at,
    peel_borders,
    peel_tail,
    run_parallel,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require,
    require_block,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "groups_last"
_VECTORS = 4  # of a tile worth trying: wider ones take long to compile, and hardly ever win
_WRITTEN_OUT = 16  # sums of a tile with all taps unrolled, likewise
_MOST_TAPS = 128  # of a row with all taps unrolled
_SHUFFLE = 1.8  # multiply-adds that gathering from a vector takes, as measured on a Zen 4
_WIDENED = 1.9  # that widening takes besides, if it takes their ports, as measured on a Granite Rapids


def fits(p: Problem, machine: Machine) -> bool:
    return across_groups(p, machine)


def pays(p: Problem, machine: Machine) -> bool:
    """Unless products with a vector for each group alone, unshuffled, cost less on machines with wide
    vectors: where few taps share what is shuffled of x; and with a stride, where half a vector does for a
    group."""
    if not machine.avx512 or p.in_group == 1:
        return True
    if p.stride[-1] > 1 and 4 * p.out_group > machine.lanes(p.acc_bytes):
        return False
    return _shuffled(p, machine) <= machine.lanes(p.acc_bytes) // p.out_group


def _shuffled(p: Problem, machine: Machine) -> float:
    """Cost of a vector of products, in multiply-adds: it takes channels of several groups, gathered from the
    vectors that hold them, for each position of a row once."""
    lanes = _lanes(p, machine)
    width, _ = tile_of(p, machine, lanes)
    shared = max(1.0, width * p.kernel[-1] / reach_of(p, -1, width))
    each = _SHUFFLE + (_WIDENED if p.widened and not machine.adds_apart else 0.0)
    return 1 + each * -(-lanes // p.out_group * p.in_group // machine.lanes(p.acc_bytes)) / shared


def space(p: Problem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, _lanes(p, machine)
    channels = p.groups * p.out_group
    strips = {-(-height(p) // n) for n in at_most(height(p))}
    return {
        "rows": sorted({*strips, default["rows"]}),
        "width": sorted({*range(1, min(8, p.out_spatial[-1]) + 1), default["width"]}),
        "block": sorted({*_blocks(lanes, channels), default["block"]}),
        "taps": list(range(1, min(2, len(p.kernel)) + 1)),
        "order": list(ORDERS) if len(p.spatial) > 1 else [default["order"]],
        "walk": list(WALKS) if len(p.spatial) > 1 else [default["walk"]],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: rows of a strip, pixels and channels of the register tile, innermost dims of
    taps unrolled, order of tasks, order of a task's tiles. Raises ValueError if it does not fit."""
    lanes, channels = _lanes(p, machine), p.groups * p.out_group
    width, vectors = tile_of(p, machine, lanes)
    block = min(vectors * lanes, channels)
    order = order_of(p, machine, block)
    default = {"rows": rows_of(p, machine, block, order), "width": width, "block": block,
               "taps": _taps(p, machine, width * -(-block // lanes)),
               "order": order, "walk": walk_of(p, machine)}
    point = settled(point, default)
    block, width = point["block"], point["width"]
    require_within(point, rows=height(p), width=p.out_spatial[-1])
    require(point["taps"] <= len(p.kernel), point, "taps", f"0 to {len(p.kernel)}")
    require_block(point, lanes, channels)
    require_registers(point, "width", width * -(-block // lanes), machine.vector_registers)
    require(point["taps"] < len(p.kernel) or width * -(-block // lanes) <= _WRITTEN_OUT, point, "taps",
            f"less than {len(p.kernel)} where there are more than {_WRITTEN_OUT} vectors of sums")
    require(point["order"] in ORDERS, point, "order", " or ".join(ORDERS))
    require(point["walk"] in WALKS, point, "walk", " or ".join(WALKS))
    return Plan(STRATEGY, ALGORITHM, Packing(block, across_groups=True),
                lambda sch: schedule(sch, p, lanes, **point), point)


def _taps(p: Problem, machine: Machine, sums: int) -> int:
    """Innermost dims of taps to unroll, beside so many vectors of sums: rows of them; all of a large dilated
    depthwise kernel, whose taps share little of what they load. Measured on a Zen 5."""
    dilated = p.is_depthwise and max(p.dilation) > 1 and min(p.kernel) >= LARGE and len(p.kernel) == 2
    if machine.full_near_avx512 and dilated and sums <= _WRITTEN_OUT:
        return 2
    return int(p.kernel[-1] * p.in_group <= _MOST_TAPS)


def _lanes(p: Problem, machine: Machine) -> int:
    """Whole groups to a vector, so that each lane's input is at a fixed distance from the first one's."""
    return machine.lanes(p.acc_bytes) // p.out_group * p.out_group


def _blocks(lanes: int, channels: int) -> list[int]:
    """Those that divide the channels, if there are three: code for a narrower last one doubles compile
    time."""
    blocks = sorted({min(vectors * lanes, channels) for vectors in range(1, _VECTORS + 1)})
    even = [block for block in blocks if channels % block == 0]
    return even if len(even) >= 3 else blocks


def schedule(
    sch: Schedule, p: Problem, lanes: int, *, rows: int, width: int, block: int, taps: int, order: str,
    walk: str,
) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if p.padded or p.widened:
        sch.compute_inline(sch.get_sblock("pad"))
    rank = len(p.spatial)
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    co, ci = sch.split(sch.fuse(g, o), [None, block], preserve_unit_iters=True)
    row_tile = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        outer, row_tile = [*outer[:-1], ro], [ri]
    tasks = {"rows": [n, co, *outer], "channels": [n, *outer, co], "pixels": [n, *outer]}[order]
    walked = [xo, *row_tile] if walk == "down" else [*row_tile, xo]
    if order == "pixels":
        walked.append(co)
    sch.reorder(*tasks, *walked, xi, ci)
    last = walked[-1]
    peel_borders(sch, xo, p, rank - 1, width)
    if row_tile:
        _peel_rows(sch, row_tile[0], p, rows)
    peel_tail(sch, co, p.groups * p.out_group, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, tasks)
    sch.compute_at(conv, last, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixels, group, channel = own[1 : rank + 1], own[rank + 1], own[rank + 2]
    offsets, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, sch.fuse(group, channel), lanes, block)
    looped, written = offsets[: len(offsets) - taps], offsets[len(offsets) - taps :]
    summed = [*looped, i, *written]
    sch.reorder(*summed, *pixels, vec, lane)
    for loop in (*pixels, *written):
        sch.unroll(loop)
    sch.decompose_reduction(conv, summed[0])


def _peel_rows(sch: Schedule, row, p: Problem, rows: int) -> None:
    """Separate the rows at a border in the first or last strip from the other rows of any strip."""
    first, last = border_tiles(p, len(p.spatial) - 2, 1)
    above_last_strip = (-(-height(p) // rows) - 1) * rows
    peel_at(sch, row, rows, [first, max(first, last - above_last_strip)])
