"""Convolutions with many channels on tensor cores, for 16-bit floats and 8-bit integers: the matrix products
of ``gemm``, with tiles multiplied by warps (``ops.tensor_gemm``).

A block loads a tile of x and one of weights into shared memory, a part of the reduction at a time; each of
its warps keeps a tile of the result in its threads' registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.base.dtypes import FLOATS, ITEMSIZE
from tvmconv.compiler.lower.mma import BYTES, MMA
from tvmconv.compiler.ops.problem import Problem
from tvmconv.compiler.ops.tensor_gemm import ALGORITHM, COLUMNS, ROWS, TensorPacking
from tvmconv.schedules.cuda.tiles import (
    SHARED,
    VECTOR_BYTES,
    WARP,
    divisors,
    inline_pad,
    operand,
    vectorized,
    window_at,
    written_out,
)
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require, require_divides, settled

STRATEGY = "gemm_tensor"
_LEAST = 32  # rows and columns below which tiles are mostly padding
_FIRST = {"float16": 75, "bfloat16": 80, "int8": 75, "uint8": 75}  # compute capability with the instruction
_VECTOR = 4  # results: TVM has no conditions of more lanes for CUDA
_SKEW = 16  # bytes between a tile's rows, which then begin in different banks
_TILES = (  # rows and columns of a block, and of a warp
    (128, 128, 64, 32), (128, 64, 32, 32), (64, 128, 32, 32), (64, 64, 32, 32), (64, 32, 32, 16),
    (32, 64, 16, 32), (32, 32, 16, 16),
)  # fmt: skip


def fits(p: Problem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``, of 8-bit integers in words: enough of everything, of a type and on
    GPUs with the instruction for it, sums with a length that divides into the instruction's."""
    many = p.out_group >= _LEAST // 2 and prod(p.out_spatial) >= _LEAST // 2 and p.batch * p.groups < 1 << 16
    if not many or machine.sms[0] < _FIRST.get(p.dtype, 1000) or p.in_group % _length(p):
        return False
    # What integers' zero points add is known only for taps that read x.
    return p.dtype in FLOATS or all(len(p.live_taps(d)) == taps for d, taps in enumerate(p.kernel))


def _size(p: Problem) -> int:
    """Bytes of a factor, or of a word of them."""
    return ITEMSIZE[p.dtype] if p.dtype in FLOATS else 4


def _length(p: Problem) -> int:
    """Of the reduction, per instruction."""
    return BYTES // _size(p)


def space(p: Problem, machine: GpuMachine) -> Space:
    """Tiles of a block and of a warp, and how much of the reduction is loaded at a time."""
    return {
        "rows": [32, 64, 128], "columns": [32, 64, 128],
        "warp_rows": [16, 32, 64], "warp_columns": [8, 16, 32, 64],
        "depth": [d for d in divisors(p.in_group, 256 // _size(p)) if d >= _length(p)],
    }  # fmt: skip


def plan_of(p: Problem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    default = dict(zip(("rows", "columns", "warp_rows", "warp_columns"), _tile_of(p, machine), strict=True))
    brought = 128 if machine.sms[0] >= 80 else 64  # bytes of a row: Turing has 64 KB for all of its blocks
    point = settled(point, {**default, "depth": max(divisors(p.in_group, brought // _size(p)))})
    require_divides(point, depth=p.in_group, rows=1 << 10, columns=1 << 10)
    require_divides(point, warp_rows=point["rows"], warp_columns=point["columns"])
    for name, least in (("warp_rows", ROWS), ("warp_columns", COLUMNS), ("depth", _length(p))):
        require(point[name] % least == 0, point, name, f"a multiple of {least}")
    warps = _warps(point)
    require(warps <= 32, point, "rows", "at most 32 warps")
    sums = point["warp_rows"] * point["warp_columns"] // WARP
    require(sums <= 64, point, "warp_columns", "at most 64 sums a thread")
    tile = (point["rows"] + point["columns"]) * (_size(p) * point["depth"] + _SKEW)
    require(tile <= SHARED, point, "depth", f"{SHARED} bytes of shared memory to hold the tiles")
    pixels, channels = _sides(p, point["rows"], point["columns"])
    packing = TensorPacking(channels, pixels=pixels, depth=point["depth"], columns=point["warp_columns"])
    return Plan(STRATEGY, ALGORITHM, packing, lambda sch: schedule(sch, p, point), point)


def _sides(p: Problem, rows: Any, columns: Any) -> tuple[Any, Any]:
    """(of pixels, of output channels): columns are what is contiguous in the result."""
    return (rows, columns) if p.channels_last else (columns, rows)


def _warps(point: dict[str, Any]) -> int:
    return point["rows"] // point["warp_rows"] * (point["columns"] // point["warp_columns"])


def _tile_of(p: Problem, machine: GpuMachine) -> tuple[int, int, int, int]:
    """The tile with which the multiprocessors finish first: whole rounds of blocks, with a block's time
    estimated from its products and what it loads for them."""
    down, across = _sides(p, prod(p.out_spatial), p.out_group)

    def time(tile: tuple[int, int, int, int]) -> float:
        rows, columns, *_ = tile
        blocks = p.batch * p.groups * -(-down // rows) * -(-across // columns)
        rounds = -(-blocks // machine.multiprocessors)
        return rounds * rows * columns * (1 + 64 * (rows + columns) / (rows * columns))

    return min(_TILES, key=time)


def schedule(sch: Schedule, p: Problem, point: dict[str, Any]) -> None:
    columns, conv, y = map(sch.get_sblock, ("columns", "conv", "y"))
    inline_pad(sch)
    n, g, down, half, row, across, quad, tile, pair = sch.get_loops(y)
    warps = [point["rows"] // point["warp_rows"], point["columns"] // point["warp_columns"]]
    block_r, warp_r, tiles_r = sch.split(
        down, [None, warps[0], point["warp_rows"] // ROWS], preserve_unit_iters=True
    )
    block_c, warp_c = sch.split(across, [None, warps[1]], preserve_unit_iters=True)
    sch.reorder(n, g, block_r, block_c, warp_r, warp_c, row, quad, tiles_r, half, tile, pair)
    sch.bind(sch.fuse(n, g), "blockIdx.z")
    pixels, channels = _sides(p, block_r, block_c)
    sch.bind(pixels, "blockIdx.x")
    sch.bind(channels, "blockIdx.y")
    sch.bind(sch.fuse(warp_r, warp_c), "threadIdx.z")
    sch.bind(row, "threadIdx.y")
    sch.bind(quad, "threadIdx.x")

    sch.compute_at(conv, quad, preserve_unit_loops=True)
    sch.set_scope(conv, 0, "local")
    *sums, tap, part, i = sch.get_loops(conv)[-12:]
    tiles, halves, own, pairs = sums[2], sums[3], sums[7], sums[8]
    part_i, i = sch.split(i, [None, _length(p)], preserve_unit_iters=True)
    sch.reorder(tap, part, part_i, tiles, own, halves, pairs, i)
    shared_w = sch.cache_read(conv, operand(sch, conv, "w"), "shared")
    sch.set_scope(columns, 0, "shared")
    for copy, rank in ((columns, 5), (shared_w, 6)):
        sch.compute_at(copy, part, preserve_unit_loops=True)
        loops, vector = sch.get_loops(copy)[-rank:], VECTOR_BYTES // _size(p)
        if copy is columns and not p.channels_last:  # neighbouring threads load neighbouring pixels
            loops, vector = [*loops[:2], *loops[3:], loops[2]], 1
            sch.reorder(*loops)
        _together(sch, loops, prod(warps), vector)
        skew = _SKEW // _size(p)
        sch.storage_align(copy, 0, axis=rank - 2, factor=point["depth"], offset=skew)
    written_out(sch, [part_i, tiles_r, half])
    window_at(sch, quad)
    _store(sch, sch.fuse(tile, pair), p, point)
    sch.decompose_reduction(conv, tap)
    for loop in (tiles, own):  # both, since a loop of one iteration would vanish otherwise
        sch.annotate(loop, MMA, int(loop is tiles))


def _store(sch: Schedule, own, p: Problem, point: dict[str, Any]) -> None:
    """Store contiguous results in as few stores as possible."""
    vector = min(point["warp_columns"] // 4, _VECTOR)
    many, lanes = sch.split(own, [None, vector], preserve_unit_iters=True)
    sch.unroll(many)
    _, extent = _sides(p, p.out_group, prod(p.out_spatial))
    if extent % point["columns"] == 0:
        vectorized(sch, lanes, vector)
    else:
        sch.unroll(lanes)


def _together(sch: Schedule, loops: list, warps: int, vector: int) -> None:
    """Share a copy of a tile among the threads of a block."""
    _, *threads, lanes = sch.split(
        sch.fuse(*loops), [None, warps, WARP // 4, 4, vector], preserve_unit_iters=True
    )
    for loop, axis in zip(threads, "zyx", strict=True):
        sch.bind(loop, f"threadIdx.{axis}")
    vectorized(sch, lanes, vector)
