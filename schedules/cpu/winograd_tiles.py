"""Convolution with small kernels by Winograd's algorithm, in either layout.

A task takes some tiles of one row of tiles, in each of the interleaved images that dilation makes of the
columns, and of one group or a few whose channels together fill a vector. It pads their pixels, transforms
them, and for each block of output channels multiplies the transformed positions in register tiles, then
transforms the products back and applies the epilogue; everything stays in the core's own cache. Intermediates
are channels-last, so for channels-first x and y the padding and the last store are transpositions.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops import winograd
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.winograd import WinogradPacking
from tvmconv.schedules.cpu import asking, pixel_tiles
from tvmconv.schedules.cpu.tiles import (
    peel_at,
    peel_tail,
    run_parallel,
    vector_run,
    vector_tile,
)
from tvmconv.schedules.cpu.winograd_cost import able_sides, sides_of, tile_of, together_of
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

STRATEGY = "winograd_tiles"
_FORMER = {"tall": 2, "wide": 2, "lines": 1}  # the values in points older than these knobs
_PACKED = 4  # lanes that all machines have


def fits(p: Problem, machine: Machine) -> bool:
    return winograd.fits(p)


def space(p: Problem, machine: Machine) -> Space:
    lanes = machine.lanes()
    down, across = able_sides(p)
    most = WinogradPacking(1, (down[0], across[0])).tiles(p)
    whole = together_of(p, machine) > 1
    blocks = {p.out_group} if whole else {min(v * lanes, p.out_group) for v in range(1, 5)}
    steps = {-(-most[1] // n) for n in range(1, most[1] + 1)}
    return {
        "tall": list(down),
        "wide": list(across),
        "lines": at_most(min(most[0], 4)),
        "steps": at_most(most[1]),
        "step": sorted(s for s in steps if s < machine.vector_registers),
        "block": sorted(blocks),
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for any problem that the algorithm fits, whether or not it pays. ``point``: rows and columns
    of a tile; rows of tiles, tiles in each, and channels of the register tile; how many such steps along the
    rows a task has. Raises ValueError if it does not fit."""
    lanes, together = machine.lanes(), together_of(p, machine)
    tall, wide = sides_of(p, machine)
    if point is not None and "tall" not in point:
        point = {**_FORMER, **point}
    chosen = {"tall": tall, "wide": wide, **(point or {})}
    for name, able in zip(("tall", "wide"), able_sides(p), strict=True):
        require(chosen[name] in able, chosen, name, " or ".join(map(str, able)))
    packing = WinogradPacking(1, (chosen["tall"], chosen["wide"]), together)
    height, width = packing.tiles(p)
    vectors, lines, step, steps = tile_of(p, machine, packing)
    default = {"tall": tall, "wide": wide, "lines": lines, "steps": steps, "step": step,
               "block": pixel_tiles.block_of(p, machine, vectors)}
    point = settled(point, default)
    block, step = point["block"], point["step"]
    require_within(point, lines=height, step=width, steps=-(-width // step) if step else 0)
    require_block(point, lanes, p.out_group)
    require(together == 1 or block == p.out_group, point, "block", str(p.out_group))
    require_registers(point, "step", point["lines"] * step * -(-block // lanes), machine.vector_registers)
    packing = WinogradPacking(block, packing.tile, together)
    ask = asks(p, machine, packing)
    return Plan(
        STRATEGY, winograd.ALGORITHM, packing, lambda sch: schedule(sch, p, packing, lanes, ask, point),
        point, exact=all(t.exact for t in packing.transforms(p)), pack=pack_schedule,
    )  # fmt: skip


def asks(p: Problem, machine: Machine, packing: WinogradPacking) -> bool:
    """Whether to ask for weights ahead: of many, each is used for a few tiles."""
    return asking.far(machine, p.acc_bytes * prod(packing.shape(p)))


def schedule(
    sch: Schedule, p: Problem, packing: WinogradPacking, lanes: int, ask: bool, point: Mapping[str, Any]
) -> None:
    lines, step, tiles = point["lines"], point["step"], point["steps"] * point["step"]
    stages = ("y", "conv", "folded", "products", "patches", "rows", "pad")
    y, conv, folded, products, patches, rows, pad = (sch.get_sblock(name) for name in stages)
    sch.compute_inline(conv)
    n, py, th, row, px, tw, col, g, o = sch.get_loops(y)
    strip, line = sch.split(th, [None, lines], preserve_unit_iters=True)
    task, tw = sch.split(tw, [None, tiles], preserve_unit_iters=True)
    move, tile = sch.split(tw, [None, step], preserve_unit_iters=True)
    g, t = sch.split(g, [None, packing.together], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, packing.block], preserve_unit_iters=True)
    sch.reorder(n, g, py, strip, task, oo, px, move, line, tile, row, col, t, oi)
    vec, lane = vector_tile(sch, sch.fuse(t, oi), lanes, packing.together * packing.block)
    sch.reorder(vec, row, col, lane)
    for loop in (row, col):
        sch.unroll(loop)
    peel_tail(sch, oo, p.out_group, packing.block)
    width, hangs_over = packing.tiles(p)[1], p.out_spatial[1] % (packing.tile[1] * p.dilation[1])
    whole = width - 1 if hangs_over else width
    if whole % tiles or whole < width:
        peel_at(sch, task, -(-width // tiles), [whole // tiles])
        peel_at(sch, move, tiles // step, [whole % tiles // step])
    run_parallel(sch, p, [n, g, py, strip, task])
    _folded(sch, folded, vec)
    sch.compute_at(products, move, preserve_unit_loops=True)
    for stage in (patches, rows):
        sch.compute_at(stage, task, preserve_unit_loops=True)
    if p.channels_last:
        sch.compute_inline(pad)
    else:
        sch.compute_at(pad, task, preserve_unit_loops=True)
    _rows(sch, rows, lanes, packing.together * p.in_group)
    _patches(sch, patches, lanes, packing.together * p.in_group)
    channels = packing.together * packing.block
    _products(sch, products, lanes, channels, channels * p.acc_bytes if ask else 0)


def pack_schedule(sch: Schedule) -> None:
    """Transform weights a vector at a time, columns first, each row of the matrices unrolled."""
    transformed, columns = sch.get_sblock("transformed"), sch.get_sblock("columns")
    at, block, a, b, i, lane = sch.get_loops(transformed)
    vec, lane = vector_run(sch, lane, _PACKED, int(sch.get(lane).extent))
    sch.reorder(at, block, i, vec, a, b, lane)
    sch.unroll(b)
    sch.compute_at(columns, vec, preserve_unit_loops=True)
    sch.set_scope(columns, 0, "local")
    a, c, _, lane = sch.get_loops(columns)[-4:]
    sch.reorder(c, a, lane)
    sch.unroll(a)
    sch.vectorize(lane)


def _folded(sch: Schedule, folded, at) -> None:
    """The products of one column after the other, transformed in registers."""
    sch.compute_at(folded, at, preserve_unit_loops=True)
    sch.set_scope(folded, 0, "local")
    row, b, *_, o, t = sch.get_loops(folded)[-10:]
    sch.reorder(b, row, o, t)
    for loop in (b, row):
        sch.unroll(loop)
    sch.vectorize(sch.fuse(o, t))


def _rows(sch: Schedule, rows, lanes: int, channels: int) -> None:
    a, *at, c = sch.get_loops(rows)[-8:]
    vec, lane = vector_run(sch, c, lanes, channels)
    sch.reorder(*at, vec, a, lane)
    sch.unroll(a)


def _patches(sch: Schedule, patches, lanes: int, channels: int) -> None:
    a, b, *at, i, t = sch.get_loops(patches)[-10:]
    vec, lane = vector_run(sch, sch.fuse(i, t), lanes, channels)
    sch.reorder(*at, a, vec, b, lane)
    sch.unroll(b)


def _products(sch: Schedule, products, lanes: int, channels: int, asked: int) -> None:
    """A matrix product at each of the transformed positions, its sums in registers until complete. ``asked``:
    bytes of weights of an input channel, if they are asked for ahead."""
    a, b, n, py, line, px, tile, g, o, t, i = sch.get_loops(products)[-11:]
    vec, lane = vector_tile(sch, sch.fuse(o, t), lanes, channels)
    sch.reorder(a, b, n, py, px, g, i, line, tile, vec, lane)
    store = sch.cache_write(products, 0, "local")
    sch.reverse_compute_at(store, b, preserve_unit_loops=True)
    *_, to_line, _, to_tile, _, to_o, to_t = sch.get_loops(store)
    vector_tile(sch, sch.fuse(to_o, to_t), lanes, channels)
    for loop in (line, tile, to_line, to_tile):
        sch.unroll(loop)
    if asked:
        asking.ask_ahead(sch, i, asked)
    sch.decompose_reduction(products, i)
