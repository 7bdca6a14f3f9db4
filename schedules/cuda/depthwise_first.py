"""Channels-first depthwise convolution: a block of threads loads a tile of a few planes, with its halo, into
shared memory; each thread computes a few rows of one column.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.direct import ALGORITHM
from tvmconv.compiler.ops.packing import Packing
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cuda.tiles import THREADS, WARP, divisor, written_out
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require, settled

STRATEGY = "depthwise_first"
_SHARED = 32 << 10  # bytes per block, so that other blocks have some as well
_MOST_TAPS = 49  # that are unrolled
_POWERS = [1, 2, 4, 8, 16, 32, 64, 128]


def fits(p: Problem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: channels first, as many out as in, a tile of a few rows fits."""
    return (
        not p.channels_last and p.in_group == 1 and p.out_group == 1 and p.groups > 1
        and p.taps <= _MOST_TAPS and _default(p) is not None
    )  # fmt: skip


def space(p: Problem, machine: GpuMachine) -> Space:
    """Planes, rows and columns of threads in a block, and rows of a thread."""
    return {"planes": _POWERS[:6], "down": _POWERS[:6], "across": _POWERS[2:], "rows": [1, 2, 4, 8]}


def plan_of(p: Problem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    point = settled(point, _default(p) or {"planes": 1, "down": 1, "across": WARP, "rows": 1})
    for name, value in point.items():
        require(value in _POWERS, point, name, "a power of two up to 128")
    require(point["planes"] <= 64, point, "planes", "at most 64")
    require(_threads(point) <= 1024, point, "planes", "at most 1024 threads a block")
    require(len(p.spatial) > 1 or point["down"] * point["rows"] == 1, point, "rows", "1: there are no rows")
    require(_bytes(p, point) <= 48 << 10, point, "rows", "a tile that fits shared memory")
    return Plan(STRATEGY, ALGORITHM, Packing(1), lambda sch: schedule(sch, p, **point), point)


def _threads(point: dict[str, int]) -> int:
    return point["planes"] * point["down"] * point["across"]


def _bytes(p: Problem, point: dict[str, int]) -> int:
    """Of the tile in shared memory."""
    tile = [1] * (len(p.spatial) - 2) + [point["down"] * point["rows"]] * (len(p.spatial) > 1)
    spans = zip([*tile, point["across"]], p.stride, p.kernel, p.dilation, strict=True)
    return p.acc_bytes * point["planes"] * prod((t - 1) * s + (k - 1) * d + 1 for t, s, k, d in spans)


def _default(p: Problem) -> dict[str, int] | None:
    """The tile that wastes the fewest threads, in a block with as many as possible; None if none fits."""
    width, height = p.out_spatial[-1], p.out_spatial[-2] if len(p.spatial) > 1 else 1
    across = min(_POWERS[2:], key=lambda n: -(-width // n) * (n + 8))  # short rows of threads read badly
    rows = 1 if height == 1 else 2 if height <= 8 else 4
    while True:
        down = next(n for n in _POWERS if n * across >= THREADS or n * rows >= height)
        point = {"planes": 1, "down": down, "across": across, "rows": rows}
        while down > 1 and _bytes(p, point) > _SHARED:
            down = point["down"] = down // 2
        if _bytes(p, point) <= _SHARED:
            break
        if rows == 1:
            return None
        rows //= 2
    most = min(divisor(p.groups, 64), THREADS // (down * across))
    while point["planes"] * 2 <= most and _bytes(p, {**point, "planes": 2 * point["planes"]}) <= _SHARED:
        point["planes"] *= 2
    return point


def schedule(sch: Schedule, p: Problem, planes: int, down: int, across: int, rows: int) -> None:
    y, conv = sch.get_sblock("y"), sch.get_sblock("conv")
    if p.padded or p.widened:
        source = sch.get_sblock("pad")
    else:
        source = sch.cache_read(conv, 0, "shared")
    rank = len(p.spatial)
    n, g, o, *outer, x = sch.get_loops(y)
    go, gi = sch.split(g, [None, planes], preserve_unit_iters=True)
    xo, xi = sch.split(x, [None, across], preserve_unit_iters=True)
    blocks, threads, own = [xo], [gi, xi], []
    if outer:
        ro, ti, ri = sch.split(outer.pop(), [None, down, rows], preserve_unit_iters=True)
        blocks, threads, own = [ro, xo], [gi, ti, xi], [ri]
    sch.reorder(n, go, o, *outer, *blocks, *threads, *own)
    written_out(sch, own)
    sch.compute_at(conv, xi, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    sums = sch.get_loops(conv)[-(2 * rank + 4):]
    pixels, taps = sums[3 : rank + 3], sums[rank + 3 : -1]
    sch.reorder(*taps, *pixels)
    written_out(sch, [*taps, *pixels])

    sch.compute_at(source, xo, preserve_unit_loops=True)
    sch.set_scope(source, 0, "shared")
    index = sch.fuse(*sch.get_loops(source)[-(rank + 3):])
    extents = [int(sch.get(loop).extent) for loop in threads]
    _, *copiers = sch.split(index, [None, *extents], preserve_unit_iters=True)
    sch.bind(sch.fuse(n, go, o, *outer), "blockIdx.x")
    for loop, axis in zip(reversed(blocks), "yz", strict=False):
        sch.bind(loop, f"blockIdx.{axis}")
    for loops in (threads, copiers):
        for loop, axis in zip(reversed(loops), "xyz", strict=False):
            sch.bind(loop, f"threadIdx.{axis}")
    sch.decompose_reduction(conv, taps[0])
