"""Channels-first convolution by vectors of output channels: each input value is broadcast against weights,
whatever its stride or dilation, and the sums of a tile are transposed in registers into planes.

Borders are tiles of their own, as in ``direct_last``; x is copied only if it has to be widened.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.memory import LINE, PAGE
from tvmconv.compiler.ops.crossed import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu import asking, pixel_tiles, planes
from tvmconv.schedules.cpu.tiles import (
    FETCHED,
    evenly,
    evict_each_other,
    inputs_of,
    peel_borders,
    peel_strips,
    peel_tail,
    run_parallel,
    vector_tile,
    write_out,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    require,
    require_block,
    require_divides,
    require_registers,
    require_within,
    settled,
)

STRATEGY = "crossed"
_ORDERS = ("rows", "channels")  # which of them tasks go through last
_FEW_VECTORS = 2  # of a wide tile
_LINES, _SMALL = 4, 8  # lines that are too many for a small plane; vectors of such planes
_AGAIN = 6  # taps that use an element of such a plane, if a stride skips some of them
# Cost of a multiply-add, with lines of x in the L1 cache, further away, or evicting each other there.
_NEAR, _FAR, _COLLIDING = 1.1, 1.25, 1.7
# With AVX-512, measured on a Zen 4: that cost, whatever the L1 cache holds; and multiply-adds that
# a vector of y costs.
_LONG, _OF_Y = 1.04, 20
# Times as much where no other row of taps reads a line again, or planes whole pages apart evict each other's.
_ONCE = 3
_APART = 1.6  # what a multiply-add of planes costs where no load of x serves two taps
_MANY = 64  # planes
_DEEP = 16  # vectors of input channels, of which each sum that is transposed is made
_WIDE = 4  # vectors of output channels that make few
_BRIEF = 128  # products of sums that take less long than to store them where planes of y evict each other
_PAGES = 3  # of a large plane
_BEYOND = 16  # times a core's cache: x that the next one does not hold
_FEW = 4  # output channels per group for which a partial vector still pays if rows are strided


def fits(p: Problem, machine: Machine) -> bool:
    return not p.channels_last and p.out_group > 1 and not p.is_depthwise


def pays(p: Problem, machine: Machine) -> bool:
    """If rows of planes make poor vectors: strides, short rows, a single pixel; or dilated kernels see much
    padding, which only this strategy skips."""
    if skips(p, machine) or reads_in_place(p, machine):
        return True
    if planes.suits(p, machine):
        return False
    pixels = prod(p.out_spatial)
    if (p.stride[-1] > 1 and p.out_group >= _FEW) or pixels == 1:
        return True
    if p.taps == 1:
        return p.groups == 1 or not planes.fills(pixels, p, machine.lanes(p.acc_bytes))
    return 2 * p.out_group >= machine.lanes(p.acc_bytes)


def reads_in_place(p: Problem, machine: Machine) -> bool:
    """Whether a copy of x for few output channels would cost more than it saves: where lines of the planes
    that a tile reads don't evict each other, and are enough to justify transposing sums."""
    if not machine.avx2 or p.taps > 1 or p.groups > 1:
        return False
    lanes = machine.lanes(p.acc_bytes)
    few = p.in_group >= _MANY and lanes < p.out_group <= _WIDE * lanes
    return few and not evict_each_other(p, machine, p.in_group // 4)


def reads_strides(p: Problem, machine: Machine) -> bool:
    """Whether, of one tap, columns of strided elements would take longer to copy than sums to transpose.
    Measured with AVX-512 only."""
    lanes = machine.lanes(p.acc_bytes)
    if not machine.avx512 or max(p.stride) == 1 or p.in_group < _DEEP * lanes:
        return False
    # x is read for each of several blocks: from far away; or planes are large, and few or from memory
    if machine.far_l3 and p.out_group > _WIDE * lanes:
        return False
    plane = p.acc_bytes * prod(p.spatial)
    few = p.in_group <= _DEEP * lanes or p.in_group * plane > _BEYOND * machine.l2
    if plane > _PAGES * PAGE and few and p.out_group > 2 * _WIDE * lanes and machine.full_avx512:
        return False
    return plane % PAGE > 0


def skips(p: Problem, machine: Machine) -> bool:
    """Whether, with dilation, it has fewer vector multiply-adds than planes, allowing for their loads."""
    lanes = machine.lanes(p.acc_bytes)
    own = _seen(p) / planes.filled(p.out_group, lanes)
    return max(p.dilation) > 1 == max(p.stride) and own <= _APART / planes.filled(p.out_spatial[-1], lanes)


def _seen(p: Problem) -> float:
    """The part of the taps that do not see padding."""
    return prod(p.seen(d) / (p.out_spatial[d] * p.kernel[d]) for d in range(len(p.kernel)))


def reads_near(p: Problem, machine: Machine) -> bool:
    """Whether a core's cache still holds what is reread of x for the next row or block of channels."""
    _, vectors = tile_of(p, machine)
    rows = p.spatial
    if p.out_group <= vectors * machine.lanes(p.acc_bytes) and len(rows) > 1:
        rows = (min(rows[0], p.extent(0)), *rows[1:])
    return p.acc_bytes * p.in_group * prod(rows) <= machine.l2


def cost(p: Problem, machine: Machine) -> float:
    """Average cost of a vector multiply-add: less if some taps, which see padding, are skipped, more if
    vectors are partly empty, or the lines of all planes that a tile reads don't fit the L1 cache, or not with
    planes a power of two apart."""
    seen = _seen(p)
    filled = planes.filled(p.out_group, machine.lanes(p.acc_bytes))
    if machine.avx512:
        held = p.acc_bytes * p.taps * p.in_group * _block(p, machine) <= machine.l2
        near = held or not evict_each_other(p, machine, p.in_group)
        return seen / filled * _LONG * (1 if near else _COLLIDING) + _fetched(p, machine)
    if p.taps > 1 and evict_each_other(p, machine, p.in_group):
        return seen / filled * _COLLIDING
    return seen / filled * (_NEAR if _lines_are_near(p, machine) else _FAR)


def _block(p: Problem, machine: Machine) -> int:
    """Output channels of a register tile."""
    return min(tile_of(p, machine)[1] * machine.lanes(p.acc_bytes), p.out_group)


def _fetched(p: Problem, machine: Machine) -> float:
    """What storing adds; and that x comes from beyond a core's cache, for each block of output channels, and
    for each tap across rows that the cache does not hold together."""
    stored = _OF_Y / (p.in_group * p.taps)
    if reads_near(p, machine):
        return stored
    rows = min(p.spatial[0], p.extent(0))
    far = len(p.spatial) > 1 and p.acc_bytes * p.in_group * rows * prod(p.spatial[1:]) > machine.l2
    vectors = -(-_block(p, machine) // machine.lanes(p.acc_bytes))
    again = prod(p.stride) * (p.kernel[0] if far else 1) / (p.taps * vectors)
    once = p.taps == p.kernel[-1] or p.acc_bytes * prod(p.spatial) % PAGE == 0
    return stored + FETCHED * p.acc_bytes * again * (_ONCE if once else 1)


def small_planes(p: Problem, machine: Machine) -> bool:
    """Whether planes are a few cache lines, not whole ones, and too many for the L1 cache to hold those, of
    which each element is used; with a stride often."""
    plane, many = p.acc_bytes * prod(p.spatial), _SMALL * machine.lanes(p.acc_bytes)
    used = max(p.stride) == 1 or p.taps >= _AGAIN * prod(p.stride)
    return plane < _LINES * LINE and plane % LINE > 0 and used and p.in_group >= many


def _lines_are_near(p: Problem, machine: Machine) -> bool:
    return p.in_group * prod(p.kernel[:-1]) * LINE <= machine.l1


def tile_of(p: Problem, machine: Machine, copied: bool = False) -> tuple[int, int]:
    """(pixels, vectors of output channels) of the register tile: wide if lines of x come from far away, since
    each tile loads its own anew; or those of planes of x or y evict each other, each of which a few pixels
    after the other would fetch anew; and if a row of taps is a loop, whose iterations would be short
    otherwise. ``copied``: x is, so that weights come from farther away, which wide tiles load rarely."""
    width, vectors = pixel_tiles.tile_of(p, machine)
    lanes = machine.lanes(p.acc_bytes)
    apart = evict_each_other(p, machine, min(vectors * lanes, p.out_group), p.out_spatial)
    if machine.avx512 and apart and p.in_group * p.taps <= _BRIEF and p.out_spatial[-1] >= lanes:
        return lanes, 1  # a whole line of each plane
    apart = apart or (not copied and evict_each_other(p, machine, p.in_group))
    few = min(_FEW_VECTORS, vectors)
    long = vectors > 1 and pixel_tiles.has_few_inputs(p)  # as they are, for LLVM unrolls those
    looped = p.taps > 1 and not long and not pixel_tiles.taps_of(p, machine, width * vectors)
    near = _lines_are_near(p, machine) and not apart and not (copied and machine.far_l3)
    if not machine.avx512 or (near and not looped):
        return width, vectors
    most = (machine.vector_registers - 2 * few) // few
    if looped and any(p.pad[-1]) and p.out_spatial[-1] > most:
        most -= 1  # for what pixels that see padding do in that loop
    wide = evenly(p.out_spatial[-1], most)
    return (wide, few) if wide > width else (width, vectors)


def space(p: Problem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes(p.acc_bytes)
    vectors = range(1, min(4, -(-p.out_group // lanes)) + 1)
    return {
        "width": list(range(1, min(p.out_spatial[-1], machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, p.out_group) for v in vectors}),
        "order": list(_ORDERS) if len(p.spatial) > 1 else [default["order"]],
        "taps": list(range(0, min(2, len(p.kernel)) + 1)) if p.taps > 1 else [default["taps"]],
        "deep": [n for n in (1, 2, 3, 4) if p.in_group % n == 0],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels and channels of the register tile; order of tasks; innermost dims of
    taps written out; input channels written out. Raises ValueError where it does not fit."""
    tile = tile_of(p, machine)
    point = point_of(p, machine, point, tile, pixel_tiles.taps_of(p, machine, prod(tile)))

    def apply(sch: Schedule) -> None:
        if p.widened:  # once, not for every tile
            planes.copy_padded(sch, p, sch.get_sblock("pad"))
        elif p.padded:
            sch.compute_inline(sch.get_sblock("pad"))
        schedule(sch, p, machine, **point)

    return Plan(STRATEGY, ALGORITHM, Packing(point["block"]), apply, point)


def point_of(
    p: Problem, machine: Machine, point: Mapping[str, Any] | None, tile: tuple[int, int], taps: int
) -> dict[str, Any]:  # fmt: skip
    """``point``, with defaults for what it leaves out: (pixels, vectors of channels) of the register
    ``tile``, and ``taps``. Raises ValueError if it does not fit."""
    lanes, (width, vectors) = machine.lanes(p.acc_bytes), tile
    default = {"width": width, "block": min(vectors * lanes, p.out_group), "order": _ORDERS[0], "taps": taps,
               "deep": inputs_of(p, machine, width, vectors, taps)}
    point = settled(point, default)
    block, width = point["block"], point["width"]
    require_within(point, width=p.out_spatial[-1])
    require_block(point, lanes, p.out_group)
    require_registers(point, "width", width * -(-block // lanes), machine.vector_registers)
    require_divides(point, deep=p.in_group)
    require(point["taps"] <= len(p.kernel), point, "taps", f"0 to {len(p.kernel)}")
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    return point


def asks(p: Problem, machine: Machine, width: int, block: int) -> bool:
    """Whether to ask for the next block of weights while all tiles of ``width`` pixels use one: if there are
    many weights, and few tiles. Not in strips, of which a core's cache holds all weights: asking took 1.01 to
    1.02 times as long on a Sapphire Rapids."""
    tiles = prod(p.out_spatial[:-1]) * -(-p.out_spatial[-1] // width)
    return block < p.out_group and asking.asks(p, machine, tiles, by_rows=True)


def schedule(
    sch: Schedule, p: Problem, machine: Machine, *, width: int, block: int, order: str, taps: int, deep: int,
    strip: int = 0,
) -> Any:  # fmt: skip
    """Schedule the kernel; the loop over strips of so many rows of the output, along its first dimension."""
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    rank, lanes = len(p.spatial), machine.lanes(p.acc_bytes)
    n, g, o, *outer, x = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    strips = []
    if strip:
        high, row = sch.split(outer[0], [None, strip], preserve_unit_iters=True)
        peel_strips(sch, high, row, p.out_spatial[0], 1, strip)
        strips, outer = [high], [row, *outer[1:]]
    tasks = [n, g, *strips, *outer, oo] if order == "channels" else [n, g, *strips, oo, *outer]
    sch.reorder(*tasks, xo, oi, xi)
    peel_borders(sch, xo, p, rank - 1, width)
    peel_tail(sch, oo, p.out_group, block)
    if width == 1:
        sch.reorder(xi, oi)
        vector_tile(sch, oi, lanes, block)
    else:
        sch.unroll(oi)
        sch.vectorize(xi)
    run_parallel(sch, p, [n, g, *strips] if strips else tasks if rank > 1 else [*tasks, xo])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 2]
    offsets, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, channel, lanes, block)
    summed = [*offsets, *write_out(sch, i, deep)]
    sch.reorder(*summed, pixel, vec, lane)
    for loop in (pixel, *offsets[len(offsets) - taps :]):
        sch.unroll(loop)
    if order == _ORDERS[0] and not strip and asks(p, machine, width, block):
        asking.ask_for_next(sch, outer[0] if outer else xo, summed[rank], p.in_group * p.taps * block)
    sch.decompose_reduction(conv, summed[0])
    return strips[0] if strips else None
