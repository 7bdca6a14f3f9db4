"""Convolutions with many channels as tiled matrix products. A block of threads loads a tile of columns and
one of weights into shared memory, a part of the reduction at a time; each thread keeps the sums of a small
tile of pixels by output channels in registers.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.compiler.ops.implicit_gemm import ALGORITHM, GemmPacking
from tvmconv.compiler.ops.problem import Problem
from tvmconv.schedules.cuda.tiles import SHARED, WARP, divisors, inline_pad, operand, written_out
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.plan import Plan, Space, require, require_divides, settled

STRATEGY = "gemm"
_LEAST = 16  # pixels, and output channels, below which tiles are mostly padding
_TILES = (  # pixels and channels of a block, and of a thread
    (128, 128, 8, 8), (128, 64, 8, 4), (64, 128, 4, 8), (64, 64, 4, 4), (128, 32, 4, 4), (32, 64, 4, 4),
    (64, 32, 4, 4), (32, 32, 4, 2),
)  # fmt: skip
_VECTOR = 4  # elements


def fits(p: Problem, machine: GpuMachine) -> bool:
    """Whether the strategy takes ``p``: enough of everything, sums of floats with a length that divides."""
    depth = max(divisors(p.in_group, WARP))
    return (
        p.acc_dtype == "float32" and p.out_group >= _LEAST and prod(p.out_spatial) >= _LEAST and depth >= 4
        and p.batch * p.groups < 1 << 16
    )  # fmt: skip


def space(p: Problem, machine: GpuMachine) -> Space:
    """Tiles of a block and of a thread, and how much of the reduction is loaded at a time."""
    return {
        "pixels": [32, 64, 128], "channels": [32, 64, 128],
        "thread_pixels": [4, 8], "thread_channels": [2, 4, 8],
        "depth": [d for d in divisors(p.in_group, WARP) if d >= _VECTOR],
    }  # fmt: skip


def plan_of(p: Problem, machine: GpuMachine, point: Mapping[str, Any] | None = None) -> Plan:
    """The plan for the default point, or for ``point``; ValueError if that does not fit."""
    names = ("pixels", "channels", "thread_pixels", "thread_channels")
    default = {**dict(zip(names, _tile_of(p, machine), strict=True)), "depth": max(divisors(p.in_group, 16))}
    point = settled(point, default)
    require_divides(point, depth=p.in_group, thread_pixels=point["pixels"], thread_channels=point["channels"])
    threads = _threads(point)
    whole = threads % WARP == 0 and WARP <= threads <= 1024
    require(whole, point, "pixels", "whole warps, up to 1024 threads")
    for name in ("depth", "thread_pixels"):
        require(point[name] % _VECTOR == 0, point, name, f"a multiple of {_VECTOR}")
    bytes_used = 4 * point["depth"] * (point["pixels"] + point["channels"]) + 16 * point["pixels"]
    require(bytes_used <= SHARED, point, "depth", f"{SHARED} bytes of shared memory to hold the tiles")
    packing = GemmPacking(point["channels"], pixels=point["pixels"])
    return Plan(STRATEGY, ALGORITHM, packing, lambda sch: schedule(sch, p, point), point)


def _threads(point: dict[str, Any]) -> int:
    return point["pixels"] // point["thread_pixels"] * (point["channels"] // point["thread_channels"])


def _tile_of(p: Problem, machine: GpuMachine) -> tuple[int, int, int, int]:
    """The tile with which the multiprocessors finish first: whole rounds of blocks, with a block's time
    estimated from its multiply-adds and the operands that a thread reads for each."""
    pixels = prod(p.out_spatial)

    def time(tile: tuple[int, int, int, int]) -> float:
        rows, columns, m, n = tile
        blocks = p.batch * p.groups * -(-pixels // rows) * -(-p.out_group // columns)
        rounds = -(-blocks // machine.multiprocessors)
        return rounds * rows * columns * (1 + 1.5 * (m + n) / (m * n))

    return min(_TILES, key=time)


def schedule(sch: Schedule, p: Problem, point: dict[str, Any]) -> None:
    columns, conv, y = map(sch.get_sblock, ("columns", "conv", "y"))
    inline_pad(sch)
    if p.channels_last:
        n, pixel, g, o, tap, i = sch.get_loops(conv)
    else:
        n, g, o, pixel, tap, i = sch.get_loops(conv)
    block_pixels, threads_p, own_p = sch.split(
        pixel, [None, point["pixels"] // point["thread_pixels"], point["thread_pixels"]],
        preserve_unit_iters=True,
    )  # fmt: skip
    block_channels, threads_c, own_c = sch.split(
        o, [None, point["channels"] // point["thread_channels"], point["thread_channels"]],
        preserve_unit_iters=True,
    )  # fmt: skip
    outer, part, inner = sch.split(i, [None, point["depth"] // _VECTOR, _VECTOR], preserve_unit_iters=True)
    # Neighbouring threads have neighbouring elements of y: channels if these are last, else pixels.
    across, along = (threads_p, threads_c) if p.channels_last else (threads_c, threads_p)
    own = [own_p, own_c] if p.channels_last else [own_c, own_p]
    sch.reorder(n, g, block_pixels, block_channels, across, along, tap, outer, part, inner, *own)
    sch.bind(sch.fuse(n, g), "blockIdx.z")
    sch.bind(block_channels, "blockIdx.y")
    sch.bind(block_pixels, "blockIdx.x")
    sch.bind(across, "threadIdx.y")
    sch.bind(along, "threadIdx.x")
    sch.set_scope(conv, 0, "local")
    sch.reverse_compute_at(y, along, preserve_unit_loops=True)

    shared_w = sch.cache_read(conv, operand(sch, conv, "w"), "shared")
    local_x = sch.cache_read(conv, operand(sch, conv, "columns"), "local")
    local_w = sch.cache_read(conv, operand(sch, conv, "w_shared"), "local")
    sch.compute_at(local_x, part if p.channels_last else inner, preserve_unit_loops=True)
    sch.compute_at(local_w, inner, preserve_unit_loops=True)
    for copy in (local_x, local_w):
        *rest, last = sch.get_loops(copy)[-5:]
        extent = int(sch.get(last).extent)
        many, vector = sch.split(last, [None, min(_VECTOR, extent)], preserve_unit_iters=True)
        sch.vectorize(vector)
        written_out(sch, [*rest, many])
    sch.set_scope(columns, 0, "shared")
    threads = [int(sch.get(loop).extent) for loop in (across, along)]
    for copy, vector in ((columns, _x_vector(p, point)), (shared_w, _VECTOR)):
        sch.compute_at(copy, outer, preserve_unit_loops=True)
        _together(sch, copy, threads, vector)
    if p.channels_last:  # rows of the tile begin in different banks
        sch.storage_align(columns, 0, axis=1, factor=point["depth"], offset=_VECTOR)
    written_out(sch, [part, inner, *own])
    *rest, last = sch.get_loops(y)[-4:]
    written_out(sch, rest)
    tile = point["channels"] if p.channels_last else point["pixels"]
    extent = p.out_group if p.channels_last else prod(p.out_spatial)
    many, vector = sch.split(last, [None, min(_VECTOR, int(sch.get(last).extent))], preserve_unit_iters=True)
    sch.unroll(many)
    if extent % tile == 0:
        sch.vectorize(vector)
    else:
        sch.unroll(vector)
    sch.decompose_reduction(conv, tap)


def _x_vector(p: Problem, point: dict[str, Any]) -> int:
    """Elements of x that one thread loads at a time: contiguous in memory and aligned."""
    if p.channels_last:
        return _VECTOR
    plain = p.taps == 1 and not p.padded and all(s == 1 for s in p.stride)
    return _VECTOR if plain and prod(p.out_spatial) % point["pixels"] == 0 else 1


def _together(sch: Schedule, copy, threads: list[int], vector: int) -> None:
    """Share a copy of a tile, of five dimensions, among the threads of a block."""
    index = sch.fuse(*sch.get_loops(copy)[-5:])
    _, y, x, lanes = sch.split(index, [None, *threads, vector], preserve_unit_iters=True)
    sch.bind(y, "threadIdx.y")
    sch.bind(x, "threadIdx.x")
    if vector > 1:
        sch.vectorize(lanes)
