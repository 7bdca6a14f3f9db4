"""Channels-first convolution: vectors along the row of a plane, a register tile of output channels (or, for a
depthwise convolution, of rows) by vectors.

A vector across the image border would mix zeros and pixels lane by lane, so padding is done by a copy: of one
plane in cache for a depthwise convolution, of x otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.memory import LINE
from tvmconv.compiler.lower.ahead import ROWS, STRIPS
from tvmconv.compiler.lower.chosen_once import ONCE
from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cpu.asking import ask_for_next, asks, extent
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    copies_by_group,
    divisor,
    evenly,
    inputs_of,
    peel_at,
    peel_strips,
    peel_tail,
    planes_of,
    register_tile,
    run_parallel,
    stage,
    vector_tile,
    write_out,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Plan,
    Space,
    at_most,
    require,
    require_divides,
    require_registers,
    require_strip,
    require_within,
    settled,
)

STRATEGY = "planes"
_ORDERS = ("rows", "channels")  # which of them tasks go through last
_MOST_TAPS = 441  # unrolled: more code takes long to compile, and does not fit the L1 cache
_FEW, _SOME = 8, 64  # planes of x that are as good where the cache has no room for them, or just room
VECTORS = 3  # of a register tile, for which parts of a row are made
_AROUND = 8  # times a core's cache: planes of x and y that the next cache holds
# Of vectors along rows, with one tap and with more, if those of output channels are full.
_LEAST_FILLED = {True: 0.9, False: 0.95}
_LARGE = 5  # taps of a row that share much of what they load
_ALONE = 0.8  # worth of a tile of one vector


def fits(p: Problem, machine: Machine) -> bool:
    return not p.channels_last


def suits(p: Problem, machine: Machine) -> bool:
    """Whether rows of a plane make full vectors, with no stride between their elements, and a core's cache
    has room for the planes that a tile goes through, which are far apart, or need not have."""
    lanes, width = machine.lanes(p.acc_bytes), p.out_spatial[-1]
    if p.stride[-1] > 1 or prod(p.out_spatial) == 1:
        return False
    some = p.taps == 1 and p.in_group <= _SOME and _size(p) <= machine.l2
    near = _size(p) <= machine.l2 // 2 or p.in_group <= _FEW or some
    if machine.far_l3 and p.widened and p.taps == 1 and p.in_group > _FEW and 2 * _size(p) > machine.l2:
        return False  # it would widen all of x first, which is then fetched again: strips are better
    return (near or _take_turns(p, machine)) and fills(width, p, lanes)


def _take_turns(p: Problem, machine: Machine) -> bool:
    """Whether tiles of pixels best go through all output channels one by one: a core's cache has no room for
    the planes, but the next one has, and a tile reads several lines of each."""
    if len(p.spatial) > 1 or p.in_group <= _FEW or _size(p) <= machine.l2 // 2:
        return False
    result = p.acc_bytes * p.out_group * prod(p.out_spatial)
    _, _, vectors = tile_of(p, machine)
    lines = vectors * machine.lanes(p.acc_bytes) * p.acc_bytes // LINE
    around = 2 * _AROUND if machine.full_near_avx512 else _AROUND
    return lines > 1 and tiles_are_near(p, machine) and _size(p) + result <= around * machine.l2


def tiles_are_near(p: Problem, machine: Machine) -> bool:
    """Whether what a tile goes through of all planes takes little of a core's cache."""
    return p.in_group * VECTORS * machine.lanes(p.acc_bytes) * p.acc_bytes <= machine.l2 // 8


def _size(p: Problem) -> int:
    """Bytes of the planes of a group."""
    padded = (s + lo + hi for s, (lo, hi) in zip(p.spatial, p.pad, strict=True))
    return p.acc_bytes * p.in_group * prod(padded)


def fills(pixels: int, p: Problem, lanes: int) -> bool:
    """Whether vectors along ``pixels`` elements are about as full as those of output channels. With taps, a
    single vector is loaded too often."""
    worth = _ALONE if p.taps > 1 and pixels <= lanes else 1.0
    return worth * filled(pixels, lanes) >= _LEAST_FILLED[p.taps == 1] * filled(p.out_group, lanes)


def filled(extent: int, lanes: int) -> float:
    """The filled fraction of vectors along ``extent`` elements."""
    return extent / (-(-extent // lanes) * lanes)


def space(p: Problem, machine: Machine) -> Space:
    return space_of(p, machine, copied=p.padded or p.widened)


def space_of(p: Problem, machine: Machine, copied: bool) -> Space:
    """See ``Strategy``; ``copied``: whether x is."""
    default, width = point_of(p, machine, None, copied), -(-p.out_spatial[-1] // machine.lanes(p.acc_bytes))
    rows, copied = len(p.spatial) > 1, copied and copies_by_group(p, machine)
    return {
        "planes": [d for d in at_most(p.groups, default["planes"]) if p.groups % d == 0] if copied else [1],
        "channels": sorted({*range(1, min(p.out_group, machine.vector_registers - 2) + 1)}),
        "rows": at_most(min(p.out_spatial[-2], 8), default["rows"]) if rows else [1],
        "vectors": list(range(1, min(width, 4) + 1)),
        "taps": list(range(0, _written_out(p) + 1)) if p.taps > 1 else [default["taps"]],
        "deep": [n for n in (1, 2, 4) if p.in_group % n == 0],
        "strip": [0, 1, 2, 4, 8] if not rows and not copied else [0],
        "order": list(_ORDERS) if rows and not copied and p.out_group > 1 else [default["order"]],
    }


def plan_of(p: Problem, machine: Machine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for ``point``: planes that are padded at a time; output channels, rows and vectors of the
    register tile; innermost dims of taps and input channels unrolled; tiles along the row that use one block
    of weights before the next (0: all); order of tasks. Raises ValueError if it does not fit."""
    point = point_of(p, machine, point, p.padded or p.widened)
    return Plan(STRATEGY, ALGORITHM, Packing(point["channels"]),
                lambda sch: schedule(sch, p, machine, **point), point)


def point_of(
    p: Problem, machine: Machine, point: Mapping[str, Any] | None, copied: bool
) -> dict[str, Any]:  # fmt: skip
    """``point``, with defaults for what it leaves out. Raises ValueError if it does not fit."""
    lanes = machine.lanes(p.acc_bytes)
    channels, rows, vectors = tile_of(p, machine)
    copied = copied and copies_by_group(p, machine)
    default = {
        "planes": planes_of(p, machine) if copied else 1,
        "channels": channels, "rows": rows, "vectors": vectors,
        "taps": _written_out(p) if p.is_depthwise else 0,
        "deep": inputs_of(p, machine) if p.taps == 1 else 1,
        "strip": int(not copied and _take_turns(p, machine)), "order": _ORDERS[0],
    }  # fmt: skip
    point = settled(point, default)
    require_divides(point, planes=p.groups if copied else 1, deep=p.in_group)
    require_within(point, channels=p.out_group, rows=p.out_spatial[-2] if len(p.spatial) > 1 else 1,
                   vectors=-(-p.out_spatial[-1] // lanes))
    sums = point["channels"] * point["rows"] * point["vectors"]
    require_registers(point, "channels", sums, machine.vector_registers)
    require(point["taps"] <= len(p.kernel), point, "taps", f"0 to {len(p.kernel)}")
    require_strip(point, len(p.spatial) == 1 and not copied, "where there are rows or copies")
    require(point["order"] in _ORDERS, point, "order", " or ".join(_ORDERS))
    return point


def _written_out(p: Problem) -> int:
    """Innermost dims of taps that may be unrolled."""
    dims = len(p.kernel)
    return max(n for n in range(min(2, dims) + 1) if prod(p.kernel[dims - n :]) <= _MOST_TAPS)


def tile_of(p: Problem, machine: Machine) -> tuple[int, int, int]:
    """(output channels, rows, vectors along the row) of the register tile."""
    width = -(-p.out_spatial[-1] // machine.lanes(p.acc_bytes))
    if p.out_group == 1:
        # Nobody has measured other machines.
        whole = machine.full_avx512 and p.kernel[-1] >= _LARGE and width == VECTORS
        vectors = width if whole else min(width, 2)
        most = min(4, (machine.vector_registers - 2) // vectors)
        return 1, min(p.out_spatial[-2], most) if len(p.spatial) > 1 else 1, vectors
    channels, vectors = register_tile(
        machine, p.out_group, width, lambda vectors: (machine.vector_registers - vectors - 1) // vectors
    )
    # Few sums wait for each other: then those of several rows.
    sums, most = 2 * machine.fma_latency * machine.fma_ports, machine.vector_registers - vectors - 1
    rows = max(1, min(sums, most) // (channels * vectors))
    return channels, evenly(p.out_spatial[-2], rows) if len(p.out_spatial) > 1 else 1, vectors


def schedule(
    sch: Schedule, p: Problem, machine: Machine, *, planes: int, channels: int, rows: int, vectors: int,
    taps: int, deep: int, strip: int, order: str, ask: bool = False,
    in_rows: Callable[[Schedule, Problem, Any], None] | None = None,
) -> None:
    """Schedule the kernel; ``in_rows``: the loops of a copy of x, if its rows are not as in x; ``ask``: for
    the planes that are copied next."""
    y, conv, lanes = sch.get_sblock("y"), sch.get_sblock("conv"), machine.lanes(p.acc_bytes)
    copy = stage(sch, "pad")
    by_group = copy is not None and copies_by_group(p, machine)
    n, g, o, *outer, x = sch.get_loops(y)
    # Planes are padded some time before they are read: a vector load that spans fresh stores waits for them.
    go, gi = sch.split(g, [None, planes], preserve_unit_iters=True)
    width = p.out_spatial[-1]
    span = min(lanes * vectors, width)
    oo, oi = sch.split(o, [None, channels], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    row_tile = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        peel_tail(sch, ro, p.out_spatial[-2], rows)
        sch.unroll(ri)
        outer, row_tile = [*outer[:-1], ro], [ri]
    if strip:
        xt, xo = sch.split(xo, [None, strip], preserve_unit_iters=True)
        outer = [xt]
        peel_strips(sch, xt, xo, width, span, strip)
    else:
        peel_tail(sch, xo, width, span)
    # The loops after that over blocks of channels use one before the next.
    before, after = ([go, gi], outer) if order == "rows" and not strip else ([go, gi, *outer], [])
    if copy is not None and outer and order == "rows" and _by_rows(p) and p.out_spatial[-2] % rows == 0:
        down = int(sch.get(outer[0]).extent)
        high, row = sch.split(outer[0], [None, divisor(down, -(-down // FEWEST_TASKS))])
        before, after = [go, gi, high], [row, *outer[1:]]
    tasks = [*before, oo, *after]
    sch.reorder(n, *tasks, xo, oi, *row_tile, xi)
    peel_tail(sch, oo, p.out_group, channels)
    vector_tile(sch, xi, lanes, span)
    sch.unroll(oi)
    sch.compute_at(conv, xo, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    window = stage(sch, "window")
    if window is not None:
        sch.annotate(oi, ONCE, 1)
        sum_windows(sch, p, window, xo, lanes, span)
    if by_group:
        sch.compute_at(copy, go, preserve_unit_loops=True)
        run_parallel(sch, p, [n, go])
        if ask:
            tiles = outer[-1] if outer else xo
            share = -(-planes * prod(p.spatial) // int(sch.get(tiles).extent))
            sch.annotate(go, STRIPS, share)
            sch.annotate(tiles, ROWS, [share, 1])
    else:
        run_parallel(sch, p, [n, *tasks])
        if copy is not None:
            copy_padded(sch, p, copy, in_rows)
    rank = len(p.spatial)
    own = sch.get_loops(conv)[-(2 * rank + 4):]
    channel, row, pixel = own[2], own[3 : rank + 2], own[rank + 2]
    offsets, i = own[rank + 3 : -1], own[-1]
    vec, lane = vector_tile(sch, pixel, lanes, span)
    inputs = write_out(sch, i, deep)
    sch.reorder(*offsets, *inputs, channel, *row, vec, lane)
    passes, by_rows = [*after, xo], not outer or bool(after)
    if channels < p.out_group and asks(p, machine, extent(sch, passes), by_rows):
        ask_for_next(sch, passes[0], inputs[0], p.taps * p.in_group * channels)
    for loop in (channel, *row, *offsets[len(offsets) - taps :]):
        sch.unroll(loop)
    sch.decompose_reduction(conv, offsets[0])
    if by_group:
        (in_rows or _peel_zeros)(sch, p, copy)


def _by_rows(p: Problem) -> bool:
    """Whether threads divide rows, both of a copy of x and of the result, for there are few planes: what a
    thread copied it then finds in its own cache."""
    return len(p.spatial) > 1 and not p.is_depthwise and p.batch * p.groups * p.in_group < FEWEST_TASKS


def sum_windows(sch: Schedule, p: Problem, window, place, lanes: int, span: int) -> None:
    """Compute the sums of x over windows (``ops.words``) in ``place``, for its own outputs."""
    sch.compute_at(window, place, preserve_unit_loops=True)
    sch.set_scope(window, 0, "local")
    pixel, *summed = sch.get_loops(window)[-(len(p.spatial) + 2):]
    vec, lane = vector_tile(sch, pixel, lanes, span)
    sch.reorder(*summed, vec, lane)
    sch.decompose_reduction(window, summed[0])


def copy_padded(
    sch: Schedule, p: Problem, copy, in_rows: Callable[[Schedule, Problem, Any], None] | None = None
) -> None:  # fmt: skip
    """Copy x with its zeros, in the type of the sums, before anything else."""
    n, g, i, rows, *_ = sch.get_loops(copy)
    (in_rows or _peel_zeros)(sch, p, copy)
    tasks = [n, g, i]
    if _by_rows(p):
        tasks = [n, g, rows, i]
        sch.reorder(*tasks)
    run_parallel(sch, p, tasks)


def _peel_zeros(sch: Schedule, p: Problem, copy) -> None:
    """Write the zeros around a plane separately from its rows, which are then plain copies."""
    for d, loop in enumerate(sch.get_loops(copy)[-len(p.spatial):]):
        peel_dim(sch, p, d, loop)


def peel_dim(sch: Schedule, p: Problem, d: int, loop) -> None:
    """Separate the zeros at both ends of dimension d, which ``loop`` goes along."""
    lo, _ = p.pad[d]
    peel_at(sch, loop, int(sch.get(loop).extent), [lo, lo + p.spatial[d]])
