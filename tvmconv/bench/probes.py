"""Kernels that find a machine's limits: multiply-adds in registers, and copies of arrays.

They are compiled, linked and called like convolutions, threads included, so they include the cost of a call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvmconv.base.dtypes import ITEMSIZE
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.schedules.machines import Machine

TASKS = 16
STEPS = 4000
_CHUNK = 64  # bytes; a task copies whole cache lines
_TILES, _WORDS = 2, 16  # of tiles of sums, side by side and one below the other; of words in a row of each


def library(machine: Machine, dtypes: Sequence[str], sizes: Sequence[int]) -> Library:
    """Functions ``fma_<dtype>`` (a type that sums have: float32, float64, or int32 for dot products of 8-bit
    integers), whose entry states its ``flops``, and ``copy_<bytes>`` from one array to another of
    ``bytes / 2``."""
    kernels = {f"fma_{dtype}": _fma(machine, dtype) for dtype in dtypes}
    return Library(kernels | {f"copy_{size}": _copy(machine, size) for size in sizes}, machine)


def _fma(machine: Machine, dtype: str) -> Kernel:
    if dtype == "int32" and machine.amx:
        return _tiles(machine)
    lanes = machine.lanes(ITEMSIZE[dtype])
    # As many sums as cover the latency, and no more than fit in registers with the two factors.
    vectors = min(machine.fma_latency * machine.fma_ports + 2, machine.vector_registers - 4)
    func = _fma_func(_multiply_add(machine, dtype), dtype, lanes, vectors)
    products = dot_of(machine).size if dtype == "int32" else 1
    flops = 2 * products * lanes * vectors * STEPS * TASKS
    x, y = Param("x", (2,), dtype), Param("y", (TASKS, vectors * lanes), dtype)
    return _kernel(machine, f"fma_{dtype}", func, x, y, flops)


def _tiles(machine: Machine) -> Kernel:
    """Of products of tiles, with the loads of their factors."""
    flops = 2 * 4 * _WORDS**3 * _TILES**2 * STEPS * TASKS
    side = _TILES * _WORDS
    x, y = Param("x", (2, side, _WORDS), "int32"), Param("y", (TASKS, side, side), "int32")
    return _kernel(machine, "fma_int32", _tiles_func(), x, y, flops)


def _copy(machine: Machine, size: int) -> Kernel:
    floats = -(-size // (2 * TASKS * _CHUNK)) * _CHUNK // 4
    x = Param("x", (TASKS, floats), "float32")
    func = _copy_func(floats, machine.lanes())
    return _kernel(machine, f"copy_{size}", func, x, Param("y", x.shape, x.dtype), 0)


def _kernel(machine: Machine, name: str, func: Any, x: Param, y: Param, flops: int) -> Kernel:
    from tvmconv.compiler.codegen.kernel import object_of

    symbol = f"k_{name}"  # the library's own function has the name
    code = object_of({symbol: func}, machine)
    return Kernel(symbol, name, code, (x,), (), (), y, {"source": "default"}, flops)


def dot_of(machine: Machine) -> Any:
    """The dot product of 8-bit integers with the most products at a time."""
    from tvmconv.schedules.dots import DOTS

    return max((DOTS[name] for name in (*machine.int8_dots, "pmaddwd")), key=lambda dot: dot.size)


def _multiply_add(machine: Machine, dtype: str) -> Callable:
    if dtype != "int32":
        return lambda a, b, c: a * b + c
    from tvmconv.compiler.lower.dots import dot_product

    dot = dot_of(machine)
    return lambda a, b, c: a + dot_product(dot, a, b)


def _fma_func(step: Callable, dtype: str, lanes: int, vectors: int) -> Any:
    from tvm.script import tirx as T

    tasks, steps = TASKS, STEPS

    @T.prim_func(s_tir=True)
    def fma(x: T.Buffer((2,), dtype), y: T.Buffer((tasks, vectors * lanes), dtype)):
        T.func_attr({"tirx.noalias": True})
        for t in T.parallel(tasks):
            acc = T.alloc_buffer((vectors * lanes,), dtype, scope="local")
            for v in T.unroll(vectors):
                for lane in T.vectorized(lanes):
                    acc[v * lanes + lane] = x[0] + T.Cast(dtype, v)
            for _ in range(steps):
                for v in T.unroll(vectors):
                    for lane in T.vectorized(lanes):
                        acc[v * lanes + lane] = step(acc[v * lanes + lane], x[0], x[1])
            for v in T.unroll(vectors):
                for lane in T.vectorized(lanes):
                    y[t, v * lanes + lane] = acc[v * lanes + lane]

    return fma


def _tiles_func() -> Any:
    from tvm.script import tirx as T

    from tvmconv.compiler.lower.amx import COLUMNS, DEPTH, ROWS, TILE, TILES
    from tvmconv.compiler.lower.dots import dot_product
    from tvmconv.schedules.dots import DOTS

    tasks, steps, tiles, words, side = TASKS, STEPS, _TILES, _WORDS, _TILES * _WORDS
    dot = DOTS["tdpbssd"]

    def product(a: Any, b: Any) -> Any:
        return dot_product(dot, a, b)

    @T.prim_func(s_tir=True)
    def fma(x: T.Buffer((2, side, words), "int32"), y: T.Buffer((tasks, side, side), "int32")):
        T.func_attr({"tirx.noalias": True})
        for t in T.parallel(tasks):
            for m, n in T.grid(side, side):
                y[t, m, n] = 0
            for _ in T.serial(steps, annotations={TILES: dot.name}):
                for i, j in T.grid(tiles, tiles):
                    for m in T.serial(words, annotations={TILE: ROWS}):
                        for n in T.serial(words, annotations={TILE: COLUMNS}):
                            for k in T.serial(words, annotations={TILE: DEPTH}):
                                y[t, i * words + m, j * words + n] = y[
                                    t, i * words + m, j * words + n
                                ] + product(x[0, i * words + m, k], x[1, j * words + k, n])

    return fma


def _copy_func(floats: int, lanes: int) -> Any:
    from tvm.script import tirx as T

    tasks = TASKS

    @T.prim_func(s_tir=True)
    def copy(x: T.Buffer((tasks, floats), "float32"), y: T.Buffer((tasks, floats), "float32")):
        T.func_attr({"tirx.noalias": True})
        for t in T.parallel(tasks):
            for i in range(floats // lanes):
                for lane in T.vectorized(lanes):
                    y[t, i * lanes + lane] = x[t, i * lanes + lane]

    return copy
