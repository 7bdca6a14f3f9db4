"""Pieces that the CPU strategies share: tile arithmetic and the schedule steps of a register tile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd, prod

from tvm.s_tir import Schedule

from tvmconv.base.memory import LINE
from tvmconv.compiler.lower.loops import PARALLEL, PEEL
from tvmconv.compiler.ops.deform import DeformProblem
from tvmconv.compiler.ops.pool_problem import PoolProblem
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import LONGEST_STRIP

# Below this many multiply-adds, waking the other threads costs more than it saves.
PARALLEL_MACS = 40_000
_WIDEST = 4  # vectors of a register tile
_LONGEST_UNROLLED = 16  # taps
_LENT = 600  # products of an element of x
_MANY = 32  # input channels
_MOST_IN_LINE = 4  # vectors of a copy or a transform
# What each byte of x that a multiply-add needs from beyond a core's cache adds to its cost (AVX-512, measured
# on a Zen 4).
FETCHED = 0.15
_LEAST_COPY = 1024  # bytes of planes that are copied at a time
MANY_TILES = 16  # of pixels of a row, enough to divide those among threads
FEWEST_TASKS = 8  # into which a kernel is divided if there is a choice


def across_groups(p: Problem, machine: Machine) -> bool:
    """Whether a vector of channels last holds those of several groups."""
    return p.channels_last and p.groups > 1 and 2 * p.out_group <= machine.lanes(p.acc_bytes)


def evenly(extent: int, most: int) -> int:
    """The size, at most ``most``, that divides ``extent`` into the fewest equal tiles."""
    return -(-extent // -(-extent // most))


def register_tile(
    machine: Machine, extent: int, vectors: int, most: Callable[[int], int],
    balance: Callable[[int, int], float] = lambda size, wide: 1.0,
) -> tuple[int, int]:  # fmt: skip
    """(size, vectors) of the register tile that wastes least for ``extent`` elements by ``vectors`` vectors:
    no sums are empty, their latency is hidden, each load is used for many of them.

    ``most``: maximum elements of a tile that wide; ``balance``: another factor of a tile's worth, from its
    size and vectors."""
    best, best_score = (1, 1), 0.0
    for wide in range(1, min(vectors, _WIDEST) + 1):
        for size in range(1, min(extent, most(wide)) + 1):
            tiles, blocks = -(-extent // size), -(-vectors // wide)
            filled = extent / (tiles * size) * vectors / (blocks * wide)
            hidden = min(1.0, size * wide / (machine.fma_latency * machine.fma_ports))
            per_load = size * wide / (size + wide)
            score = filled * hidden * min(1.0, 0.6 + 0.1 * per_load) * balance(size, wide)
            if score > best_score * 1.001:
                best, best_score = (size, wide), score
    return best


def evict_each_other(p: Problem, machine: Machine, planes: int, spatial: Sequence[int] | None = None) -> bool:
    """Whether the L1 cache has no room for a line of each of so many planes, at one place in them: of x, or
    of this size."""
    apart, page = p.acc_bytes * prod(spatial or p.spatial), machine.l1 // machine.l1_ways
    places = min(page // gcd(apart, page), page // LINE)
    return planes > machine.l1_ways * places


def image_bytes(p: Problem) -> int:
    """Of a group's channels of an image, in the type of the sums."""
    return p.acc_bytes * p.in_group * prod(p.spatial)


def lends(p: Problem, machine: Machine) -> bool:
    """Whether a copy of x, made by one thread alone, takes others long to read: it is a single row, whose
    elements are used for few products each, and comes from another core through the shared cache. Nobody has
    measured other machines."""
    alone = len(p.spatial) == 1 and p.batch * p.groups * p.in_group == 1
    few = _LENT if machine.far_l3 else _LENT // 2
    return machine.full_avx512 and alone and p.taps * p.out_group < few * prod(p.stride)


def inputs_of(
    p: Problem, machine: Machine, width: int = 0, vectors: int = 0, taps: int = 0, along: int | None = None
) -> int:  # fmt: skip
    """Input channels to write out: two where the shared cache is far away, for their loads begin earlier. Not
    if taps are written out (so many dims of them); nor for a tile of one pixel, of a partial vector, or of
    ``width`` by ``vectors`` that leave too few registers for the weights of both. ``along``: elements that
    vectors go along, a group's output channels if not given. Measured on a Granite Rapids: 1.0 to 1.1 times
    as fast."""
    if not machine.far_l3 or p.widened or p.in_group < _MANY or p.in_group % 2 or width == 1:
        return 1
    lanes = machine.lanes(p.acc_bytes)
    if along is None:  # a last block with a partial vector counts too: LLVM spills there
        whole = vectors == 0 or p.out_group % lanes == 0
    else:
        whole = min(vectors * lanes, along) % lanes == 0
    room = (width + 2) * vectors <= machine.vector_registers
    return 2 if whole and room and (taps == 0 or p.kernel[-1] == 1) else 1


def reread(p: Problem) -> int:
    """Bytes of x below one element of a row, or its pixel, that rows of the output read again; 0 unless taps
    are across two dims' rows only, so that strips of all rows need nothing of each other."""
    if len(p.spatial) != 2 or p.kernel[-1] > 1 or any(p.pad[-1]) or p.kernel[0] <= p.stride[0]:
        return 0
    channels = p.in_group * (p.groups if p.channels_last else 1)
    return p.acc_bytes * channels * p.extent(0)


def rows_are_far(p: Problem, machine: Machine) -> bool:
    """Whether a core's cache does not hold together the rows that are ``reread``."""
    return reread(p) * p.spatial[-1] > machine.l2


def height(p: Problem | PoolProblem) -> int:
    """Rows of the output."""
    return p.out_spatial[-2] if len(p.spatial) > 1 else 1


def even_strip(tiles: int) -> int:
    """Tiles of a strip, half of a row's ``tiles`` at most, so that the last strip lacks the fewest: what it
    lacks is divided among threads too, some of which would have less to do."""
    most = min(LONGEST_STRIP, -(-tiles // 2))
    return min(range(most, most // 2, -1), key=lambda strip: -tiles % strip)


def divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` that is at most ``most``, or 1."""
    return max(d for d in range(1, max(most, 1) + 1) if number % d == 0)


def copies_by_group(p: Problem, machine: Machine) -> bool:
    """Whether tasks, of which there are enough, copy the planes of their own groups, which are then in a near
    cache, not in another core's. Measured with AVX-512, of several planes per group."""
    many = machine.avx512 and p.groups > 1 and p.batch * p.groups >= FEWEST_TASKS
    return p.is_depthwise or many


def planes_of(p: Problem, machine: Machine) -> int:
    """Groups of a convolution whose planes to copy at a time: what half the L1 cache holds, if that leaves
    enough tasks; the largest such divisor of their number. Where the shared cache is far away, one, if it is
    not so small that it would be read while it is stored: x then comes while there are sums."""
    size = p.acc_bytes * prod(s + lo + hi for s, (lo, hi) in zip(p.spatial, p.pad, strict=True))
    if copies_by_group(p, machine):
        size *= p.in_group
    most = min(machine.l1 // 2 // size, p.batch * p.groups // FEWEST_TASKS)
    if machine.far_l3 and len(p.spatial) > 1:
        most = min(most, -(-_LEAST_COPY // size))
    return divisor(p.groups, most)


def border_tiles(p: Problem | PoolProblem, d: int, tile: int) -> tuple[int, int]:
    """Of the tiles along output dimension d: how many at the low side see padding, and the first at the high
    side that does or is partial."""
    count = -(-p.out_spatial[d] // tile)
    span = (p.kernel[d] - 1) * p.dilation[d]
    lo = p.pad[d][0]
    first = next((t for t in range(count) if t * tile * p.stride[d] >= lo), count)

    def inside(t: int) -> bool:
        last = (t + 1) * tile - 1
        return last < p.out_spatial[d] and last * p.stride[d] + span < lo + p.spatial[d]

    last = count
    while last > first and not inside(last - 1):
        last -= 1
    return first, last


def peel_borders(sch: Schedule, loop, p: Problem | PoolProblem, d: int, tile: int) -> None:
    """Separate the tiles of ``loop`` at a border of dimension d from the others."""
    count = -(-p.out_spatial[d] // tile)
    first, last = border_tiles(p, d, tile)
    peel_at(sch, loop, count, [first, last])


def peel_tail(sch: Schedule, loop, extent: int, tile: int) -> None:
    """Separate the last, partial tile of ``loop`` over ``extent`` elements."""
    if extent % tile:
        peel_at(sch, loop, -(-extent // tile), [extent // tile])


def peel_strips(sch: Schedule, outer, inner, extent: int, tile: int, strip: int) -> None:
    """As ``peel_tail``, for a loop over tiles that was split into ``outer`` and ``inner``, of ``strip``."""
    tiles = -(-extent // tile)
    strips, last = -(-tiles // strip), (tiles - 1) % strip
    if extent % (tile * strip):
        peel_at(sch, outer, strips, [strips - 1])
        peel_at(sch, inner, strip, [last, last + 1])


def peel_at(sch: Schedule, loop, count: int, cuts: list[int]) -> None:
    cuts = sorted({c for c in cuts if 0 < c < count})
    if cuts:
        sch.annotate(loop, PEEL, cuts)


def stage(sch: Schedule, name: str):
    """The block of the stage ``name``; None if the kernel has none."""
    names = {block.name_hint for block in map(sch.get, sch.get_child_blocks(sch.get_sblock("root")))}
    return sch.get_sblock(name) if name in names else None


def run_parallel(sch: Schedule, p: Problem | PoolProblem | DeformProblem, loops: list) -> None:
    """Distribute ``loops``, directly nested, over the threads, if the work is worth waking them."""
    turning = [loop for loop in loops if int(sch.get(loop).extent) > 1]  # lowering drops the others
    if p.macs >= PARALLEL_MACS and turning:
        sch.annotate(turning[0], PARALLEL, len(turning))


def write_out(sch: Schedule, loop, times: int) -> list:
    """The loops that ``loop`` becomes when unrolled by ``times``."""
    if times == 1:
        return [loop]
    outer, inner = sch.split(loop, [None, times], preserve_unit_iters=True)
    sch.unroll(inner)
    return [outer, inner]


def widen(sch: Schedule, p: Problem, copy, lanes: int) -> None:
    """Copy a channels-last x in the type of the sums, with its zeros: once, not for every tile."""
    *pixels, g, i = sch.get_loops(copy)
    extent = p.groups * int(sch.get(i).extent)  # more channels than p has if these are words
    vector_run(sch, sch.fuse(g, i), lanes, extent)
    run_parallel(sch, p, pixels)


def vector_tile(sch: Schedule, loop, lanes: int, extent: int):
    """Split ``loop`` of ``extent`` into (vectors, lanes), lanes vectorised, vectors unrolled; both loops."""
    lanes = min(lanes, extent)
    outer, inner = sch.split(loop, [None, lanes], preserve_unit_iters=True)
    peel_tail(sch, outer, extent, lanes)
    if lanes > 1:
        sch.vectorize(inner)
    sch.unroll(outer)
    return outer, inner


def vector_run(sch: Schedule, loop, lanes: int, extent: int):
    """As ``vector_tile``, but many vectors are a loop: they share nothing, and unrolling all channels of a
    pixel takes LLVM long."""
    if extent <= _MOST_IN_LINE * lanes:
        return vector_tile(sch, loop, lanes, extent)
    outer, inner = sch.split(loop, [None, lanes], preserve_unit_iters=True)
    peel_tail(sch, outer, extent, lanes)
    sch.vectorize(inner)
    return outer, inner


def unroll_taps(sch: Schedule, sizes: Sequence[int], taps: list) -> None:
    """Unroll the innermost of ``taps``, loops of these ``sizes``, as long as they are few."""
    count = 1
    for loop, size in zip(reversed(taps[-2:]), reversed(sizes[-2:]), strict=True):
        count *= size
        if count <= _LONGEST_UNROLLED:
            sch.unroll(loop)
