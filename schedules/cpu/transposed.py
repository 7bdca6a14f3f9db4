"""Transposed convolution, phase by phase, with vectors of output channels.

The phases along a row are unrolled (up to a few), so that their taps are known at compile time; phases of the
other dims are loops, and a tap that a phase lacks is skipped as a whole row of taps. Borders of the image are
separate tiles, without a padded copy of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.transposed import PhaseSums
from tvmconv.compiler.ops.transposed_problem import TransposedPacking, TransposedProblem
from tvmconv.schedules.cpu import pixel_tiles
from tvmconv.schedules.cpu.tiles import (
    across_groups,
    evenly,
    peel_at,
    peel_tail,
    run_parallel,
    vector_tile,
    widen,
)
from tvmconv.schedules.cpu.transposed_planes import (
    MOST_WRITTEN_OUT,
    WIDE,
    joins,
    unlike,
    write_out_dilated,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import Plan, Space, require_block, require_registers, require_within, settled

STRATEGY = "transposed_channels"
_FEW = 2  # vectors of channels of a wide tile


def fits(p: TransposedProblem, machine: Machine) -> bool:
    return True


def pays_in_planes(p: TransposedProblem, machine: Machine) -> bool:
    """Whether vectors along rows are fuller than vectors of channels, for a channels-first problem; and, of
    whole groups of channels, are interleaved well: where a row is not part of one vector alone, and all
    phases have as many taps. Measured with AVX-512 only."""
    lanes, width = machine.lanes(p.acc_bytes), p.positions[-1]
    if machine.avx512 and joins(p) and p.in_group > lanes < 2 * p.out_group:
        part = p.out_spatial[-1] < lanes * p.stride[-1]
        if part or (lanes >= WIDE and unlike(p) and p.kernel[-1] > p.stride[-1]):
            return False
    filled = width / (-(-width // lanes) * lanes)
    return not p.channels_last and 2 * filled > min(1.0, p.out_group / lanes)


def space(p: TransposedProblem, machine: Machine) -> Space:
    default = plan_of(p, machine).point
    _, lanes, channels = _vectors(p, machine)
    return {
        "width": sorted({*range(1, min(p.positions[-1], machine.vector_registers - 2) + 1),
                         default["width"]}),
        "block": sorted({min(v * lanes, channels) for v in range(1, 5)}),
    }  # fmt: skip


def plan_of(p: TransposedProblem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for any problem; ``point``: positions and channels of the register tile. Raises ValueError
    where it does not fit."""
    across, lanes, channels = _vectors(p, machine)
    if across:
        vectors = min(2, -(-channels // lanes))
        width = min(machine.vector_registers // 2 // vectors, 4, p.positions[-1])
    else:
        width, vectors = _tile_of(p, machine)
    point = settled(point, {"width": width, "block": min(vectors * lanes, channels)})
    width, block = point["width"], point["block"]
    require_within(point, width=p.positions[-1])
    require_block(point, lanes, channels)
    require_registers(point, "width", width * -(-block // lanes), machine.vector_registers)
    return Plan(STRATEGY, PhaseSums(), TransposedPacking(block, across),
                lambda sch: schedule(sch, p, lanes, width, block, across), point)


def _tile_of(p: TransposedProblem, machine: Machine) -> tuple[int, int]:
    """(positions, vectors of channels) of the register tile: as for a phase alone, but as wide as possible if
    the L1 cache does not hold the weights of a phase for so many channels. Measured where what lies beyond it
    is slow for two multiply-adds per cycle, on a Granite Rapids."""
    phase = p.phase()
    width, vectors = pixel_tiles.tile_of(phase, machine)
    weights = p.acc_bytes * phase.in_group * phase.taps * vectors * machine.lanes(p.acc_bytes)
    if not machine.far_l3 or vectors <= _FEW or weights <= machine.l1:
        return width, vectors
    wide = evenly(p.positions[-1], (machine.vector_registers - 2 * _FEW) // _FEW)
    return (wide, _FEW) if wide > width else (width, vectors)


def _vectors(p: TransposedProblem, machine: Machine) -> tuple[bool, int, int]:
    """(whether a vector holds channels of several groups, its lanes, the channels that are cut into them)."""
    lanes = machine.lanes(p.acc_bytes)
    if across_groups(p, machine):
        # Whole groups to a vector, so that each lane's input is at a fixed distance from the first one's.
        return True, lanes // p.out_group * p.out_group, p.groups * p.out_group
    return False, lanes, p.out_group


def border_cuts(p: TransposedProblem, d: int, tile: int) -> list[int]:
    """Of the tiles of positions along dim d: the first that sees nothing below x in any phase, and the first
    at the high side that sees something above it or is partial."""
    lowest, highest = p.reach(d)
    count = -(-p.positions[d] // tile)
    first = next((t for t in range(count) if t * tile + lowest >= 0), count)

    def inside(t: int) -> bool:
        end = (t + 1) * tile
        return end * p.stride[d] <= p.out_spatial[d] and end - 1 + highest < p.spatial[d]

    last = count
    while last > first and not inside(last - 1):
        last -= 1
    return [first, last]


def schedule(
    sch: Schedule, p: TransposedProblem, lanes: int, width: int, block: int, across: bool
) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    sch.compute_inline(sch.get_sblock("phase"))
    if p.widened and across:  # each vector of x is read for only one vector of channels
        sch.compute_inline(sch.get_sblock("pad"))
    elif p.widened:
        widen(sch, p, sch.get_sblock("pad"), lanes)
    rank = len(p.spatial)
    n, *halves, g, o = sch.get_loops(y)
    q, r = halves[:rank], halves[rank:]
    xo, xi = sch.split(q[-1], [None, width], preserve_unit_iters=True)
    if across:
        co, ci = sch.split(sch.fuse(g, o), [None, block], preserve_unit_iters=True)
        channels, extent = [co], p.groups * p.out_group
    else:
        co, ci = sch.split(o, [None, block], preserve_unit_iters=True)
        channels, extent = [g, co], p.out_group
    # The larger stays in the cache from one task to the next: weights of a few channels and of one phase, or
    # a few rows.
    many = p.weight_elements > p.x_elements
    rows = [*r[:-1], *q[:-1]] if many else [*q[:-1], *r[:-1]]
    tasks = [n, *channels, *rows] if many else [n, *rows, *channels]
    inner = [xo, r[-1]] if across else [r[-1], xo]
    sch.reorder(*tasks, *inner, xi, ci)
    if p.stride[-1] <= MOST_WRITTEN_OUT:
        peel_at(sch, r[-1], p.stride[-1], list(range(1, p.stride[-1])))
    write_out_dilated(sch, p, r[:-1])
    peel_at(sch, xo, -(-p.positions[-1] // width), border_cuts(p, rank - 1, width))
    peel_tail(sch, co, extent, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, tasks if rows else [*tasks, *inner])
    sch.compute_at(conv, inner[-1], preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(3 * rank + 4):]
    pixel, group, channel = own[rank], own[2 * rank + 1], own[2 * rank + 2]
    taps, i = own[2 * rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, sch.fuse(group, channel) if across else channel, lanes, block)
    sch.reorder(*taps, i, pixel, vec, lane)
    sch.unroll(pixel)
    if p.steps[-1] <= MOST_WRITTEN_OUT:
        sch.unroll(taps[-1])
    sch.decompose_reduction(conv, taps[0])
