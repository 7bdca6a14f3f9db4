"""Channels-last convolution with several input channels per group: a register tile of pixels by channels.

Weights are packed so that one load fetches those of a vector of output channels; each input value is
broadcast against them. Taps above and below the image are skipped as rows, and left and right borders are
separate tiles, so there is no padded copy of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.memory import LINE
from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu.asking import ask_for_next, asks
from tvmconv.schedules.cpu.pixel_tiles import FEW_INPUTS, block_of, taps_of, tile_of
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    MANY_TILES,
    even_strip,
    evenly,
    image_bytes,
    inputs_of,
    peel_borders,
    peel_strips,
    peel_tail,
    reread,
    rows_are_far,
    run_parallel,
    vector_tile,
    widen,
    write_out,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    LONGEST_STRIP,
    Plan,
    Space,
    require,
    require_block,
    require_divides,
    require_registers,
    require_strip,
    require_within,
    settled,
)

STRATEGY = "direct_last"
_PIECE, _LONGER = 2 * LINE, 4 * LINE  # bytes of a group's channels of a pixel
_NARROW = 8  # pixels of a tile that is the only one of its strip
_STRIPS = (0, 1, 2, 4, 8, 16)
_REFETCHED = 4  # times as many bytes of weights as of x
_ORDERS = ("rows", "channels")  # which of them tasks go through last


def fits(p: Problem, machine: Machine) -> bool:
    return p.channels_last


def space(p: Problem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes(p.acc_bytes)
    vectors = range(1, min(4, -(-p.out_group // lanes)) + 1)
    rows = len(p.spatial) > 1
    return {
        "width": list(range(1, min(p.out_spatial[-1], machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, p.out_group) for v in vectors}),
        "strip": sorted({*_STRIPS, default["strip"]}) if _has_strips(p) else [0],
        "order": list(_ORDERS) if rows else [default["order"]],
        "taps": list(range(0, min(2, len(p.kernel)) + 1)) if p.taps > 1 else [default["taps"]],
        "deep": [n for n in (1, 2, 4) if p.in_group % n == 0],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels and channels of the register tile; tiles of pixels that use one block of
    weights before the next (0: all of a row); order of tasks; innermost dims of taps unrolled; input channels
    unrolled. Raises ValueError if it does not fit."""
    lanes, (width, vectors) = machine.lanes(p.acc_bytes), _tile_of(p, machine)
    width = min(width, _NARROW) if _scattered(p, machine) or _scatters(p, machine) else width
    taps = taps_of(p, machine, width * vectors)
    default = {"width": width, "block": block_of(p, machine, vectors),
               "strip": _strip(p, machine, width, vectors * lanes),
               "order": _ORDERS[not _keeps_block(p, machine, min(vectors * lanes, p.out_group))],
               "taps": taps,
               "deep": inputs_of(p, machine, width, vectors, taps)}
    point = settled(point, default)
    block, width = point["block"], point["width"]
    require_within(point, width=p.out_spatial[-1])
    require_block(point, lanes, p.out_group)
    require_registers(point, "width", width * -(-block // lanes), machine.vector_registers)
    require_divides(point, deep=p.in_group)
    require_strip(point, _has_strips(p), "where there are taps along rows")
    require(point["taps"] <= len(p.kernel), point, "taps", f"0 to {len(p.kernel)}")
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    # Without memory operands few channels are the outermost sum, so that LLVM's innermost loop is of rows.
    few = p.in_group <= FEW_INPUTS and not machine.memory_operands
    packing, tiles = Packing(block), point["strip"] or -(-p.out_spatial[-1] // width)
    by_rows = point["order"] == _ORDERS[0] and not point["strip"]  # all rows use a block before the next
    if by_rows:
        tiles *= prod(p.out_spatial[:-1])
    ask = asks(p, machine, tiles, by_rows)
    return Plan(STRATEGY, ALGORITHM, packing,
                lambda sch: schedule(sch, p, lanes, few, ask, by_rows, **point), point)


def _tile_of(p: Problem, machine: Machine) -> tuple[int, int]:
    """As ``tile_of``, but narrower if a core's cache then keeps the weights of a block for all rows."""
    width, vectors = tile_of(p, machine)
    for fewer in range(vectors, 0, -1):
        if _keeps_block(p, machine, min(fewer * machine.lanes(p.acc_bytes), p.out_group)):
            return tile_of(p, machine, fewer)
    return width, vectors


def _keeps_block(p: Problem, machine: Machine, block: int) -> bool:
    """Whether all rows, channels last, best use one block of output channels before the next: a core's cache
    does not hold all weights, which each row would then fetch anew, but those of a block beside x. Where the
    shared cache is far away, also if x is fetched for each block instead, and is several times less. Measured
    where a core multiplies two vectors of AVX-512 per cycle; of a Zen 4's tuned records half have it so."""
    if not machine.full_avx512 or len(p.spatial) == 1:
        return False
    weights, rows = p.acc_bytes * p.taps * p.in_group, prod(p.out_spatial[:-1])
    of_all = weights * p.groups * p.out_group
    if machine.far_l3 and 4 * weights * block <= 3 * machine.l2 < 4 * of_all:
        again = p.groups * -(-p.out_group // block) * image_bytes(p)
        if _REFETCHED * again <= (rows - 1) * of_all:
            return True
    return weights * block + p.groups * image_bytes(p) <= machine.l2 < of_all


def _scattered(p: Problem, machine: Machine) -> bool:
    """Whether a group's few channels are read from pixels of a large image, of which prefetching brings too
    little: all groups of a few pixels are then computed at once. Of more channels if a core's cache holds all
    weights twice; measured on a Zen 5 only."""
    light = 2 * p.acc_bytes * p.groups * p.in_group * p.out_group <= machine.l2
    longer = light and machine.full_near_avx512
    few = p.groups > 1 == p.taps and p.in_group * p.acc_bytes <= (_LONGER if longer else _PIECE)
    return few and len(p.spatial) == 1 and prod(p.x_shape()) * p.acc_bytes > machine.l2


def _scatters(p: Problem, machine: Machine) -> bool:
    """Whether a group's few channels are stored into pixels of an image that a core's cache does not hold:
    of a wide tile, all stores then wait at once. Measured with AVX-512 only."""
    few = p.groups > 1 and p.out_group * p.acc_bytes <= 2 * LINE and machine.avx512
    return few and p.groups * p.out_group * prod(p.out_spatial) * p.acc_bytes > machine.l2


def _has_strips(p: Problem) -> bool:
    """Whether strips of a row need nothing of each other; of rows, with taps across them only."""
    return p.kernel[-1] == 1 and not any(p.pad[-1]) and (p.taps > 1 or len(p.spatial) == 1)


def _strip(p: Problem, machine: Machine, width: int, block: int) -> int:
    """Tiles of pixels that use one block of weights before the next: half of a row at most, so that
    threads divide the pixels, as layers before and after do, whose data is then in the caches of the same
    cores. Of few pixels all, and threads divide the work by blocks, so that each reads its own weights; if
    blocks ended within cache lines of y, threads would contend for those."""
    if len(p.spatial) > 1:
        return _rereading(p, machine, width)
    if p.taps > 1:
        return 0
    if _scattered(p, machine):
        return 1
    tiles = -(-p.out_spatial[-1] // width)
    if p.batch * tiles >= MANY_TILES:
        together = block < p.out_group and _streams(p, machine)
        return 1 if together else even_strip(tiles)
    contended = p.groups * p.out_group * p.acc_bytes % LINE and block < p.out_group
    if not contended:
        return 0
    return max(n for n in _STRIPS[1:] if n == 1 or p.batch * (tiles // n) >= FEWEST_TASKS)


def _streams(p: Problem, machine: Machine) -> bool:
    """Whether y goes far away, where lines come and go together with their neighbours, and the L1 cache keeps
    all weights: tiles then have all their channels at once. Measured where the shared cache is far away."""
    weights = p.acc_bytes * p.groups * p.in_group * p.out_group
    y = p.acc_bytes * p.groups * p.out_group * prod(p.out_spatial)
    return machine.far_l3 and 2 * weights <= machine.l1 and y > machine.l2


def _rereading(p: Problem, machine: Machine, width: int) -> int:
    """Tiles of a strip of which all rows are computed before the next, so that a core's cache still holds
    what a row rereads of those before; 0 where it does so anyway, or the weights take its room."""
    weights = p.acc_bytes * p.taps * p.groups * p.in_group * p.out_group
    if not rows_are_far(p, machine) or 2 * weights > machine.l2:
        return 0
    held = max(1, machine.l2 // 2 // (reread(p) * width * p.stride[-1]))
    return evenly(-(-p.out_spatial[-1] // width), min(held, LONGEST_STRIP))


def schedule(
    sch: Schedule, p: Problem, lanes: int, few: bool, ask: bool, by_rows: bool, *, width: int, block: int,
    strip: int, order: str, taps: int, deep: int,
) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    copy = sch.get_sblock("pad") if p.widened else None
    if p.padded and copy is None:
        sch.compute_inline(sch.get_sblock("pad"))
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    rank = len(p.spatial)
    if strip:
        xt, xo = sch.split(xo, [None, strip], preserve_unit_iters=True)
        outer = [xt, *outer]
    tasks = [n, *outer, g, oo] if order == "channels" else [n, g, oo, *outer]
    sch.reorder(*tasks, xo, xi, oi)
    if strip:
        peel_strips(sch, xt, xo, p.out_spatial[-1], width, strip)
    elif copy is None:
        peel_borders(sch, xo, p, len(p.spatial) - 1, width)
    else:
        peel_tail(sch, xo, p.out_spatial[-1], width)
    if copy is not None:
        widen(sch, p, copy, lanes)
    peel_tail(sch, oo, p.out_group, block)
    vector_tile(sch, oi, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, tasks if rank > 1 else [*tasks, xo])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    loops = sch.get_loops(conv)
    own = loops[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 2]
    offsets, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, channel, lanes, block)
    inputs = write_out(sch, i, deep)
    summed = [*inputs, *offsets] if few else [*offsets, *inputs]
    sch.reorder(*summed, pixel, vec, lane)
    for loop in (pixel, *offsets[len(offsets) - taps :]):
        sch.unroll(loop)
    if ask:
        ask_for_next(sch, outer[0] if outer and by_rows else xo, inputs[0], p.taps * p.in_group * block)
    sch.decompose_reduction(conv, summed[0])
