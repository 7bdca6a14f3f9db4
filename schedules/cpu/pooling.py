"""Pooling. Channels-last: vectors of channels, a register tile of pixels, no padded copy. Channels-first:
windows first by columns, in vectors along the row of x, then along what that gave for a strip of rows. A
whole image: several strands of partial results, in vectors of channels or along the plane, joined in the end;
parallel over channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from tvm import tirx
from tvm.s_tir import Schedule

from tvmconv.compiler.lower.loops import VECTORS
from tvmconv.compiler.ops import pooling as pool
from tvmconv.compiler.ops.pooling import PoolProblem
from tvmconv.formats.choice import Choice
from tvmconv.schedules.cpu.tiles import (
    FEWEST_TASKS,
    border_tiles,
    peel_at,
    peel_borders,
    peel_tail,
    run_parallel,
    vector_tile,
)
from tvmconv.schedules.machines import Machine
from tvmconv.schedules.plan import (
    Space,
    at_most,
    require,
    require_block,
    require_divides,
    require_registers,
    require_within,
    settled,
)

Point = Mapping[str, Any] | None

_LONGEST_UNROLLED = 16  # taps


@dataclass(frozen=True)
class PoolPlan:
    """The kernel as scheduled, the strategy's name and the numbers that it chose."""

    func: tirx.PrimFunc
    strategy: str
    point: dict[str, Any]


def plan(p: PoolProblem, machine: Machine, choice: Choice | None = None) -> PoolPlan:
    """The plan for ``p``; every pooling has one. Raises ValueError where ``choice`` does not fit."""
    strategy = _strategy(p)
    if choice is not None:
        require(choice.strategy == strategy, {"strategy": choice.strategy}, "strategy", strategy)
    return _STRATEGIES[strategy](p, machine, None if choice is None else choice.point)


def spaces(p: PoolProblem, machine: Machine) -> dict[str, Space]:
    """The space of the strategy for ``p``, by its name."""
    default, strategy, lanes = plan(p, machine).point, _strategy(p), machine.lanes(p.acc_bytes)
    width, registers = p.out_spatial[-1], machine.vector_registers - 2
    rows = at_most(_height(p), default.get("rows"))
    values = {
        "rows": [n for n in rows if strategy != "pool_planes" or _height(p) % n == 0],
        "width": list(range(1, min(width, 8) + 1)),
        "block": sorted({min(v * lanes, p.channels) for v in range(1, 9)}),
        "vectors": list(range(1, min(-(-width // lanes), 4) + 1)),
        "planes": [n for n in at_most(p.batch, default.get("planes")) if p.batch % n == 0],
        "strands": list(range(1, min(registers, 8) + 1)),
    }
    return {strategy: {name: values[name] for name in default}}


def _strategy(p: PoolProblem) -> str:
    if p.whole:
        return "pool_whole_plane" if p.channels == 1 else "pool_whole_last"
    return "pool_planes" if p.channels == 1 else "pool_last"


def _height(p: PoolProblem) -> int:
    return p.out_spatial[-2] if len(p.spatial) > 1 else 1


def _planned(func: tirx.PrimFunc, strategy: str, apply, point: dict[str, Any]) -> PoolPlan:
    sch = Schedule(func)
    apply(sch)
    return PoolPlan(sch.mod["main"], strategy, point)


def _divisor(number: int, most: int) -> int:
    """The largest divisor of ``number`` that is at most ``most``, or 1."""
    return max(d for d in range(1, max(most, 1) + 1) if number % d == 0)


def _last(p: PoolProblem, machine: Machine, point: Point) -> PoolPlan:
    lanes, height = machine.lanes(p.acc_bytes), _height(p)
    have = -(-p.channels // lanes)
    vectors = min(4 if p.out_spatial[-1] <= 14 else 2, have)
    width = max(1, min(machine.vector_registers // 2 // vectors, 4, p.out_spatial[-1]))
    block = min(vectors * lanes, p.channels)
    others = p.batch * prod(p.out_spatial[:-2]) * -(-p.channels // block)
    rows = -(-height // min(height, -(-FEWEST_TASKS // others)))
    point = settled(point, {"rows": rows, "width": width, "block": block})
    require_within(point, rows=height, width=p.out_spatial[-1])
    require_block(point, lanes, p.channels)
    sums = point["width"] * -(-point["block"] // lanes)
    require_registers(point, "width", sums, machine.vector_registers)
    return _planned(pool.windows_func(p), "pool_last",
                    lambda sch: _last_schedule(sch, p, lanes, **point), point)


def _last_schedule(sch: Schedule, p: PoolProblem, lanes: int, rows: int, width: int, block: int) -> None:
    y, sums = sch.get_sblock("y"), sch.get_sblock("pool")
    if p.padded or p.widened:
        sch.compute_inline(sch.get_sblock("pad"))
    rank = len(p.spatial)
    n, *outer, x, c = sch.get_loops(y)
    xo, xi = sch.split(x, [None, width], preserve_unit_iters=True)
    co, ci = sch.split(c, [None, block], preserve_unit_iters=True)
    strip = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        outer, strip = [*outer[:-1], ro], [ri]
    sch.reorder(n, *outer, co, xo, *strip, xi, ci)
    peel_borders(sch, xo, p, rank - 1, width)
    peel_tail(sch, co, p.channels, block)
    vector_tile(sch, ci, lanes, block)
    sch.unroll(xi)
    run_parallel(sch, p, [n, *outer, co])
    sch.compute_at(sums, strip[0] if strip else xo, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    own = sch.get_loops(sums)[-(2 * rank + 2):]
    pixels, channel, taps = own[1 : rank + 1], own[rank + 1], own[rank + 2 :]
    vec, lane = vector_tile(sch, channel, lanes, block)
    sch.reorder(*taps, *pixels, vec, lane)
    for loop in pixels:
        sch.unroll(loop)
    _unroll_taps(sch, p.kernel, taps)
    sch.decompose_reduction(sums, taps[0])


def _planes(p: PoolProblem, machine: Machine, point: Point) -> PoolPlan:
    lanes, height = machine.lanes(p.acc_bytes), _height(p)
    width = -(-p.out_spatial[-1] // lanes)
    # Columns are written some time before they are read: a load that spans fresh stores waits for them.
    size = p.acc_bytes * (p.spatial[-1] + sum(p.pad[-1]))
    most = height * p.batch // FEWEST_TASKS
    rows = _divisor(height, min(most, machine.l1 // 2 // size))
    if rows < 4:
        rows = _divisor(height, min(most, machine.l2 // 2 // size))
    point = settled(point, {"rows": rows, "vectors": min(width, 2)})
    require_divides(point, rows=height)
    require_within(point, vectors=min(width, machine.vector_registers - 2))
    return _planned(pool.planes_func(p), "pool_planes",
                    lambda sch: _planes_schedule(sch, p, lanes, **point), point)


def _planes_schedule(sch: Schedule, p: PoolProblem, lanes: int, rows: int, vectors: int) -> None:
    y, sums, column = (sch.get_sblock(name) for name in ("y", "pool", "column"))
    rank, width = len(p.spatial), p.out_spatial[-1]
    n, *outer, x, c = sch.get_loops(y)
    strip = []
    if outer:
        ro, ri = sch.split(outer[-1], [None, rows], preserve_unit_iters=True)
        peel_borders(sch, ro, p, rank - 2, rows)
        outer, strip = [*outer[:-1], ro], [ri]
    span = min(lanes * vectors, width)
    xo, xi = sch.split(x, [None, span], preserve_unit_iters=True)
    sch.reorder(n, *outer, *strip, xo, c, xi)
    peel_tail(sch, xo, width, span)
    vector_tile(sch, xi, lanes, span)
    run_parallel(sch, p, [n, *outer])
    sch.compute_at(sums, xo, preserve_unit_loops=True)
    sch.set_scope(sums, 0, "local")
    own = sch.get_loops(sums)[-(rank + 3):]
    vec, lane = vector_tile(sch, own[rank], lanes, span)
    sch.reorder(own[-1], own[rank + 1], vec, lane)
    if p.kernel[-1] <= _LONGEST_UNROLLED:
        sch.unroll(own[-1])
    sch.decompose_reduction(sums, own[-1])
    if prod(p.kernel[:-1]) == 1 and not p.padded and not p.widened:
        sch.compute_inline(column)
    else:
        _columns(sch, p, column, [n, *outer][-1], lanes, rows)


def _columns(sch: Schedule, p: PoolProblem, column, at, lanes: int, rows: int) -> None:
    """The columns of a strip: rows that see no padding apart from the others, vectors along them."""
    rank, taps = len(p.spatial), [k for k in p.kernel[:-1] if k > 1]
    sch.compute_at(column, at, preserve_unit_loops=True)
    own = sch.get_loops(column)[-(rank + 1 + len(taps)):]
    place, reduced = own[rank - 1], own[rank + 1 :]
    lo = p.pad[-1][0]
    peel_at(sch, place, int(sch.get(place).extent), [lo, lo + p.spatial[-1]])
    sch.annotate(place, VECTORS, lanes)
    if rank > 1:
        first, last = border_tiles(p, rank - 2, 1)
        peel_at(sch, own[rank - 2], rows, [first % rows, last % rows])
    _unroll_taps(sch, taps, reduced)
    if reduced:
        sch.decompose_reduction(column, reduced[0])


def _unroll_taps(sch: Schedule, sizes: Sequence[int], taps: list) -> None:
    count = 1
    for loop, size in zip(reversed(taps[-2:]), reversed(sizes[-2:]), strict=True):
        count *= size
        if count <= _LONGEST_UNROLLED:
            sch.unroll(loop)


def _whole_last(p: PoolProblem, machine: Machine, point: Point) -> PoolPlan:
    lanes = machine.lanes(p.acc_bytes)
    vectors = max(1, min(8, p.batch * -(-p.channels // lanes) // FEWEST_TASKS))
    point = settled(point, {"block": min(vectors * lanes, p.channels)})
    require_block(point, lanes, p.channels)
    block = point["block"]

    def apply(sch: Schedule) -> None:
        y, sums, row = (sch.get_sblock(name) for name in ("y", "pool", "row"))
        n, _, _, c = sch.get_loops(y)
        co, ci = sch.split(c, [None, block], preserve_unit_iters=True)
        sch.reorder(n, co, ci)
        peel_tail(sch, co, p.channels, block)
        vector_tile(sch, ci, lanes, block)
        run_parallel(sch, p, [n, co])
        sch.compute_at(sums, co, preserve_unit_loops=True)
        sch.set_scope(sums, 0, "local")
        channel, r = sch.get_loops(sums)[-2:]
        vec, lane = vector_tile(sch, channel, lanes, block)
        sch.reorder(r, vec, lane)
        sch.compute_at(row, r, preserve_unit_loops=True)
        sch.set_scope(row, 0, "local")
        channel, q = sch.get_loops(row)[-2:]
        vec, lane = vector_tile(sch, channel, lanes, block)
        sch.reorder(q, vec, lane)
        sch.decompose_reduction(row, q)
        sch.decompose_reduction(sums, r)

    return _planned(pool.whole_last_func(p), "pool_whole_last", apply, point)


def _whole_plane(p: PoolProblem, machine: Machine, point: Point) -> PoolPlan:
    lanes, size = machine.lanes(p.acc_bytes), p.spatial[0]
    while lanes > size:
        lanes //= 2
    # Memory for the strands is taken once a task, so a task has several planes.
    planes = _divisor(p.batch, p.batch // (2 * FEWEST_TASKS))
    point = settled(point, {"strands": min(4, size // lanes), "planes": planes})
    require_divides(point, planes=p.batch)
    require_within(point, strands=size // lanes)
    span, planes = lanes * point["strands"], point["planes"]

    def apply(sch: Schedule) -> None:
        y = sch.get_sblock("y")
        no, n = sch.split(sch.get_loops(y)[0], [None, planes], preserve_unit_iters=True)
        run_parallel(sch, p, [no])
        names = [sch.get(b).name_hint for b in sch.get_child_blocks(sch.get_sblock("root"))]
        for name in reversed([name for name in names if name.startswith("half")]):
            block = sch.get_sblock(name)
            sch.compute_at(block, n, preserve_unit_loops=True)
            sch.set_scope(block, 0, "local")
            loop = sch.get_loops(block)[-1]
            if int(sch.get(loop).extent) > 1:
                sch.vectorize(loop)
        part = sch.get_sblock("part")
        sch.compute_at(part, n, preserve_unit_loops=True)
        sch.set_scope(part, 0, "local")
        strand, k = sch.get_loops(part)[-2:]
        peel_tail(sch, k, size, span)
        vec, lane = vector_tile(sch, strand, lanes, span)
        sch.reorder(k, vec, lane)
        sch.decompose_reduction(part, k)

    return _planned(pool.whole_plane_func(p, span, lanes), "pool_whole_plane", apply, point)


_STRATEGIES: dict[str, Callable[[PoolProblem, Machine, Point], PoolPlan]] = {
    "pool_last": _last, "pool_planes": _planes, "pool_whole_last": _whole_last,
    "pool_whole_plane": _whole_plane,
}  # fmt: skip
