"""3x3 convolution by Winograd's algorithm, in either layout.

A task takes some tiles of one row of tiles, in each of the images that a dilation makes of the columns. It
pads their pixels, transforms them, and for each block of output channels multiplies the 16 transformed
positions in register tiles, then transforms the products back and finishes them; all stays in the core's
own cache. In between channels come last, so that of x and y in planes the padding and the last store are
transpositions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.ops import winograd
from tvmconv.ops.problem import Problem
from tvmconv.schedules.cpu.tiles import peel_at, peel_tail, run_parallel, vector_tile
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require_block,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "winograd_tiles"
_LEAST_CHANNELS = 512  # of one group, input times output
_LEAST_GAIN = 1.4  # fewer multiplications; below this the transforms eat it up


def fits(p: Problem, machine: Machine) -> bool:
    return winograd.fits(p)


def rule(p: Problem, machine: Machine) -> Plan | None:
    lanes = machine.lanes()
    if not (winograd.fits(p) and p.in_group >= 16 and p.out_group >= 2 * lanes):
        return None
    if p.in_group * p.out_group < _LEAST_CHANNELS:
        return None  # too few products for each pixel that is transformed
    tiles = [count * d for count, d in zip(winograd.tiles(p), p.dilation, strict=True)]
    if _seen(p, 0) * _seen(p, 1) < _LEAST_GAIN * 16 * tiles[0] * tiles[1]:
        return None
    transformed = 16 * 4 * p.groups * p.in_group * p.out_group
    if tiles[1] < 6 and transformed > machine.l2:
        return None  # each task would fetch all the weights for a few tiles
    return plan_of(p, machine)


def _seen(p: Problem, d: int) -> int:
    """How many pairs of an output and a tap of dimension d see x, and not padding."""
    reads = (o + k * p.dilation[d] - p.pad[d][0] for o in range(p.out_spatial[d]) for k in range(3))
    return sum(0 <= at < p.spatial[d] for at in reads)


def space(p: Problem, machine: Machine) -> Space:
    default, width = plan_of(p, machine).point, winograd.tiles(p)[1]
    lanes = machine.lanes()
    steps = {-(-width // n) for n in range(1, width + 1)}
    most = machine.vector_registers - 2
    return {
        "step": sorted(s for s in steps if s <= most),
        "steps": at_most(width, default["steps"]),
        "block": sorted({min(v * lanes, p.out_group) for v in range(1, 5)}),
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for any problem that the algorithm fits, whether or not it pays. ``point``: tiles and channels
    of the register tile, and how many such steps of tiles a task has. Raises ValueError where it does not
    fit."""
    lanes = machine.lanes()
    width = winograd.tiles(p)[1]
    vectors = min(2 if width > 3 else 4, -(-p.out_group // lanes))
    block = min(vectors * lanes, p.out_group)
    most = (machine.vector_registers - vectors - (machine.vector_bits < 512)) // vectors
    steps = -(-width // most)
    step = -(-width // steps)
    # As many steps a task as leave the transformed patches room in the core's cache.
    held = machine.l2 // 2 // (16 * 4 * p.groups * p.in_group * step * p.dilation[1])
    default = {"steps": max(1, min(steps, held)), "step": step, "block": block}
    point = settled(point, default)
    step, block = point["step"], point["block"]
    require_within(point, step=width, steps=-(-width // step) if step else 0)
    require_block(point, lanes, p.out_group)
    require_registers(point, "step", step * -(-block // lanes), machine.vector_registers)
    return Plan(
        STRATEGY, winograd.WinogradPacking(block),
        lambda sch: schedule(sch, p, lanes, point["steps"] * step, step, block), point, algorithm="winograd",
    )  # fmt: skip


def schedule(sch: Schedule, p: Problem, lanes: int, tiles: int, step: int, block: int) -> None:
    stages = ("y", "conv", "products", "patches", "pad")
    y, conv, products, patches, pad = (sch.get_sblock(name) for name in stages)
    sch.compute_inline(conv)
    n, py, th, row, px, tw, col, g, o = sch.get_loops(y)
    task, tw = sch.split(tw, [None, tiles], preserve_unit_iters=True)
    move, tile = sch.split(tw, [None, step], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    vec, lane = vector_tile(sch, oi, lanes, block)
    sch.reorder(n, py, th, task, g, oo, px, move, tile, vec, row, col, lane)
    for loop in (row, col):
        sch.unroll(loop)
    peel_tail(sch, oo, p.out_group, block)
    width = winograd.tiles(p)[1]
    whole = width - 1 if p.out_spatial[1] % (2 * p.dilation[1]) else width  # the last one hangs over
    if whole % tiles or whole < width:
        peel_at(sch, task, -(-width // tiles), [whole // tiles])
        peel_at(sch, move, tiles // step, [whole % tiles // step])
    run_parallel(sch, p, [n, py, th, task])
    sch.compute_at(products, move, preserve_unit_loops=True)
    sch.compute_at(patches, task, preserve_unit_loops=True)
    sch.compute_at(pad, task, preserve_unit_loops=True)
    _patches(sch, patches, lanes, p.in_group)
    _products(sch, products, lanes, block)


def _patches(sch: Schedule, patches, lanes: int, channels: int) -> None:
    a, b, *at, i = sch.get_loops(patches)[-9:]
    vec, lane = sch.split(i, [None, min(lanes, channels)], preserve_unit_iters=True)
    peel_tail(sch, vec, channels, lanes)
    sch.reorder(*at, vec, a, b, lane)
    sch.vectorize(lane)
    sch.unroll(a)
    sch.unroll(b)


def _products(sch: Schedule, products, lanes: int, block: int) -> None:
    """A matrix product at each of the 16 positions, its sums in registers until they are complete."""
    a, b, *images, tile, g, o, i = sch.get_loops(products)[-10:]
    vec, lane = vector_tile(sch, o, lanes, block)
    sch.reorder(a, b, *images, g, i, tile, vec, lane)
    store = sch.cache_write(products, 0, "local")
    sch.reverse_compute_at(store, b, preserve_unit_loops=True)
    *_, to_tile, _, to_o = sch.get_loops(store)
    vector_tile(sch, to_o, lanes, block)
    for loop in (tile, to_tile):
        sch.unroll(loop)
    sch.decompose_reduction(products, i)
