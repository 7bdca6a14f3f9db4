"""Channels-last convolution of 8-bit integers in words: a register tile of pixels by output channels, as for
floats, over x copied with its padding, so that each word of it is broadcast by one load."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.memory import LINE
from tvmconv.compiler.lower.chosen_once import ONCE
from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.integer import over_words
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.transposed_problem import TransposedProblem
from tvmconv.compiler.ops.words import copied, in_words, shifts
from tvmconv.schedules.cpu.asking import ask_for_next, asks, extent
from tvmconv.schedules.cpu.tiles import (
    MANY_TILES,
    across_groups,
    even_strip,
    peel_at,
    peel_strips,
    peel_tail,
    register_tile,
    run_parallel,
    vector_run,
    vector_tile,
)
from tvmconv.schedules.dots import DOTS, Dot
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    require,
    require_block,
    require_registers,
    require_strip,
    require_within,
    settled,
)

STRATEGY = "words_last"
_FEW = 16  # words of input channels; this few are unrolled
_ALONE = 0.8  # worth of a tile of one vector, for which each word of x is loaded anew
_ORDERS = ("rows", "channels")  # which of them tasks go through last
_STRIPS = (0, 2, 4, 8, 16)


def dot_of(p: Problem, machine: Machine) -> Dot | None:
    """The widest dot product of ``machine`` whose words are more than half full; None for one channel."""
    able = [DOTS[name] for name in machine.int8_dots]
    return max((dot for dot in able if 2 * p.in_group > dot.size), key=lambda dot: dot.size, default=None)


def product_of(p: Problem, machine: Machine) -> Dot | None:
    """What multiplies single elements and adds up in one instruction; None where nothing does."""
    return DOTS["vpdpwssd"] if "vpdpbusd" in machine.int8_dots else None


def transposed_dot_of(p: TransposedProblem, machine: Machine) -> Dot | None:
    """One whose factors have their zero points subtracted: the taps of an output differ from phase to phase,
    and so would the zero points' contribution. None if a vector holds several groups, whose words are not
    contiguous."""
    if p.in_group == 1 or across_groups(p, machine):
        return None
    return next((DOTS[name] for name in machine.int8_dots if not shifts(DOTS[name])), None)


def fits(p: Problem, machine: Machine) -> bool:
    return p.channels_last and dot_of(p, machine) is not None


def space(p: Problem, machine: Machine) -> Space:
    default, lanes = plan_of(p, machine).point, machine.lanes()
    return {
        "width": list(range(1, min(p.out_spatial[-1], machine.vector_registers - 2) + 1)),
        "block": sorted({min(v * lanes, p.out_group) for v in range(1, 5)}),
        "order": list(_ORDERS) if len(p.spatial) > 1 else [default["order"]],
        "strip": sorted({*_STRIPS, default["strip"]}) if len(p.spatial) == 1 else [0],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: pixels and channels of the register tile; order of tasks; tiles of a single row
    that use one block of weights before the next (0: all). Raises ValueError where it does not fit."""
    dot, lanes = dot_of(p, machine), machine.lanes()
    assert dot is not None  # for it fits
    width, vectors = tile_of(p, machine, dot)
    # The larger stays in the cache from one task to the next: weights of a block, or rows of x.
    weights = 4 * prod(Packing(lanes).shape(in_words(p, dot)))
    block = min(vectors * lanes, p.out_group)
    default = {"width": width, "block": block, "order": _ORDERS[2 * weights < machine.l2],
               "strip": _strip(p, machine, width, block)}
    point = settled(point, default)
    require_within(point, width=p.out_spatial[-1])
    require_block(point, lanes, p.out_group)
    sums = point["width"] * -(-point["block"] // lanes)
    require_registers(point, "width", sums, machine.vector_registers)
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    require_strip(point, len(p.spatial) == 1, "where there are rows")
    algorithm = over_words(
        ALGORITHM, dot, lanes=window_lanes(p, machine, dot), shared=shares_columns(p, point["width"]),
        flips=_flips(machine), chooses=_chooses(machine),
    )  # fmt: skip
    packing = Packing(point["block"])
    return Plan(STRATEGY, algorithm, packing, lambda sch: schedule(sch, p, machine, **point), point)


def tile_of(p: Problem, machine: Machine, dot: Dot) -> tuple[int, int]:
    """(pixels, vectors of output channels) of the register tile: the pair that wastes least."""
    have = -(-p.out_group // machine.lanes())
    # Besides the sums: a word of x, and a product not yet added; and where the loop over words is unrolled,
    # what LLVM loads ahead, or it spills.
    registers = machine.vector_registers - 1 - (not dot.adds) - dot.checked  # ones, to add pairs
    if in_words(p, dot).in_group <= _FEW and dot.adds:
        registers = machine.vector_registers * 3 // 4 - 1
    most = p.out_spatial[-1]
    return register_tile(machine, most, have, lambda vectors: (registers - vectors) // vectors,
                         lambda size, wide: 1.0 if wide > 1 else _ALONE)


def _strip(p: Problem, machine: Machine, width: int, block: int) -> int:
    """Half of a row at most, so that threads divide its pixels, not its channels, where they'd contend for
    lines of y, of bytes: half of a pixel ends within one, or y, which may begin anywhere, is stored often."""
    tiles = -(-p.out_spatial[-1] // width)
    if len(p.spatial) > 1 or block >= p.out_group or p.batch * tiles < MANY_TILES:
        return 0
    often = p.in_group <= 4 * _FEW and not machine.arch.startswith("a")  # nobody has measured others
    if not often and p.groups * p.out_group % (2 * LINE) == 0:
        return 0
    return even_strip(tiles)


def _flips(machine: Machine) -> bool:
    """Whether to shift words of x as they are read, for each tile, and not copy x before: on CPUs that do so
    beside dot products."""
    return machine.avx512 and machine.adds_apart


def _chooses(machine: Machine) -> bool:
    """Whether each tile takes off what zero points of the weights add only where there are some, by code of
    its own. Measured with AVX-512 only."""
    return machine.avx512


def schedule(
    sch: Schedule, p: Problem, machine: Machine, width: int, block: int, order: str, strip: int
) -> None:  # fmt: skip
    dot, lanes, rank = dot_of(p, machine), machine.lanes(), len(p.spatial)
    assert dot is not None
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if copied(p, dot, _flips(machine)):
        copy_words(sch, p, dot, machine)
    n, *outer, x, g, o = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    oo, oi = sch.split(o, [None, block], preserve_unit_iters=True)
    if strip:
        xt, xo = sch.split(xo, [None, strip], preserve_unit_iters=True)
        peel_strips(sch, xt, xo, p.out_spatial[-1], width, strip)
        outer = [xt]
    else:
        peel_tail(sch, xo, p.out_spatial[-1], width)
    before, after = ([], outer) if order == "rows" else (outer, [])
    tasks = [n, *before, g, oo, *after]
    sch.reorder(*tasks, xo, xi, oi)
    peel_tail(sch, oo, p.out_group, block)
    vector_tile(sch, oi, lanes, block)
    sch.unroll(xi)
    if _chooses(machine):
        sch.annotate(xi, ONCE, 1)
    run_parallel(sch, p, tasks if rank > 1 else [*tasks, xo])
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    pixel, channel = own[rank], own[rank + 2]
    taps, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(*taps, i, pixel, vec, lane)
    words, passes = in_words(p, dot), [*after, xo]
    if block < p.out_group and asks(words, machine, extent(sch, passes), by_rows=bool(after) or rank == 1):
        ask_for_next(sch, passes[0], i, p.taps * words.in_group * block)
    # Of products that are still to be added LLVM would have too many at a time.
    for loop in (pixel, i) if int(sch.get(i).extent) <= _FEW and not dot.checked else (pixel,):
        sch.unroll(loop)
    sch.decompose_reduction(conv, taps[0])
    if shifts(dot):
        windows(sch, xo, p, machine, dot, shares_columns(p, width))


def window_lanes(p: Problem, machine: Machine, dot: Dot) -> int:
    """Contiguous words in the sum over a window."""
    return min(machine.lanes(), in_words(p, dot).in_group)


def shares_columns(p: Problem, width: int, times: int = 1) -> bool:
    """Whether the windows of as many pixels side by side see that much fewer columns than each by itself."""
    taps = len(p.live_taps(-1))
    seen = (width - 1) * p.stride[-1] + (taps - 1) * p.dilation[-1] + 1
    return times * seen < taps * width


def windows(sch: Schedule, place, p: Problem, machine: Machine, dot: Dot, shared: bool) -> None:
    """Compute the sums over windows in ``place``, for its own outputs."""
    lanes, rank = window_lanes(p, machine, dot), len(p.spatial)
    first, summed = ("column", rank) if shared else ("window", rank + 1)
    contiguous = p.groups == 1 and lanes == in_words(p, dot).in_group
    contiguous &= shared or p.stride[-1] == 1
    stages = [("window", 1)] if shared else []
    stages += [(first, summed)] if lanes == 1 else [(first, 1), ("part", summed)]
    for name, reduced in stages:
        block = sch.get_sblock(name)
        sch.compute_at(block, place, preserve_unit_loops=True)
        sch.set_scope(block, 0, "local")
        loops = sch.get_loops(block)
        own, around = loops[-reduced:], loops[:-reduced]
        pixel, *inner = around[-4 if name == "part" else -3 :]
        if contiguous and (name, reduced) == stages[-1]:
            run = sch.fuse(pixel, *inner)
            vectors, run = vector_run(sch, run, machine.lanes(), int(sch.get(run).extent))
            sch.reorder(vectors, *own, run)
        else:
            # A sum waits for the term before it; those of other pixels do not.
            sch.reorder(*own, pixel, *inner)
            if int(sch.get(pixel).extent) < machine.vector_registers:
                sch.unroll(pixel)
            if name == "part":
                sch.vectorize(inner[-1])
        sch.decompose_reduction(block, own[0])


def copy_words(sch: Schedule, p: Problem, dot: Dot, machine: Machine) -> None:
    """Copy x with its padding, vector by vector."""
    copy = sch.get_sblock("pad")
    n, *pixels, g, i = sch.get_loops(copy)
    for loop, size, (lo, _) in zip(pixels, p.spatial, p.pad, strict=True):
        peel_at(sch, loop, int(sch.get(loop).extent), [lo, lo + size])
    size = int(sch.get(i).extent)
    vector_run(sch, sch.fuse(g, i), machine.lanes(4 // dot.size), p.groups * size)
    run_parallel(sch, p, [n, *pixels[:-1]] if len(pixels) > 1 else [n, *pixels])
