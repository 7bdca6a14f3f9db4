"""Products of tiles by AMX: eight registers of up to 16 rows of 64 bytes.

``tvmconv.tiles = instruction`` on a loop: it, and those inside, add up dot products of words of 8-bit
integers (``lower.dots``), right after a nest that sets the sums to zero; the innermost are, by
``tvmconv.tile``, over the "rows" and the "columns" of a tile of sums, and its "depth". Each of those nests
becomes one instruction, after loads of the tiles that no register holds; the sums are stored where the loops
would leave them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product, takewhile

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.amx_settings import NONE, PRODUCT, SHAPES, Shape, call, noted
from tvmconv.compiler.lower.rewrite import func_pass, mentions, sequence, substitute, with_parts
from tvmconv.schedules.dots import AMX

TILES, TILE = "tvmconv.tiles", "tvmconv.tile"
ROWS, COLUMNS, DEPTH = "rows", "columns", "depth"
_REGISTERS = 8
_WORD = 4  # bytes


@dataclass(frozen=True)
class _Tile:
    """A tile in memory: the address of its first element, the bytes from row to row, its shape."""

    first: tirx.BufferLoad
    apart: int
    shape: Shape

    @property
    def key(self) -> tuple:
        """Equal for the same tile."""
        return self.first.source.name, str(self.first.indices[0]), self.apart, self.shape

    def moved(self, name: str, register: int) -> tirx.Stmt:
        """Load it, or store it."""
        return call(f"tile{name}64", register, tirx.address_of(self.first), tirx.const(self.apart, "int64"))


class _Registers:
    """What each holds: sums from the first on, which stay; factors from the last on, of which the one whose
    last use is longest ago gives way to another of its shape. ``shapes``: of all factors, each of which gets
    a register."""

    def __init__(self, shapes: set[Shape]) -> None:
        self._missing = set(shapes)
        self.shapes: list[Shape] = [NONE] * _REGISTERS
        self._factors: dict[tuple, int] = {}

    def of_sums(self, tile: _Tile) -> int:
        """One that is not in use."""
        register = self.shapes.index(NONE)
        self.shapes[register] = tile.shape
        return register

    def of_factor(self, tile: _Tile) -> tuple[int, bool]:
        """The register for a factor, and whether it holds it already."""
        known = tile.key in self._factors
        if known:
            register = self._factors.pop(tile.key)
        elif tile.shape in self._missing or self.shapes.count(NONE) > len(self._missing):
            register = max(r for r, shape in enumerate(self.shapes) if shape == NONE)
            self._missing.discard(tile.shape)
        else:
            old = next(key for key, r in self._factors.items() if self.shapes[r] == tile.shape)
            register = self._factors.pop(old)
        self._factors[tile.key], self.shapes[register] = register, tile.shape
        return register, known


def _multiplied(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.SeqStmt):
        found: list[tirx.Stmt] = []
        for each in stmt.seq:
            if isinstance(each, tirx.For) and TILES in each.annotations:
                if (parts := _parts(each)) is not None:
                    found[-1] = _by_tiles(each, *parts)  # in place of the nest that sets the sums to zero
            else:
                found.append(_multiplied(each))
        return sequence(found)
    return with_parts(stmt, _multiplied)


def _by_tiles(
    nest: tirx.For, loops: list[tirx.For], guards: list[tirx.Expr], asks: list[tirx.Stmt],
    store: tirx.BufferStore,
) -> tirx.Stmt:  # fmt: skip
    tile = {str(loop.annotations[TILE]): loop for loop in loops if TILE in loop.annotations}
    others = [loop for loop in loops if TILE not in loop.annotations]
    outer = [loop for loop in others if mentions(store.indices[0], loop.loop_var)]
    products = []
    for values in product(*(range(int(loop.extent)) for loop in outer)):
        fixed = [(loop.loop_var, loop.min + value) for loop, value in zip(outer, values, strict=True)]
        if (found := _product(store, tile, guards, fixed)) is not None:
            products.append(found)
    registers, work = _Registers({factor.shape for _, *factors in products for factor in factors}), []
    sums = {into.key: (registers.of_sums(into), into) for into, _, _ in products}
    for into, *factors in products:
        taken, loads = [], []
        for factor in factors:
            register, known = registers.of_factor(factor)
            loads += [] if known else [factor.moved("loadd", register)]
            taken.append(register)
        added = call(str(nest.annotations[TILES]), sums[into.key][0], *taken)
        work.append(noted(PRODUCT, tvm.ir.StringImm(""), sequence([*asks, *loads, added])))
        asks = []
    body = sequence(work)
    for loop in reversed([loop for loop in others if loop not in outer]):
        body = tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body)
    zeros = [call("tilezero", register) for register, _ in sums.values()]
    stores = [into.moved("stored", register) for register, into in sums.values()]
    shapes = ",".join(f"{rows}x{size}" for rows, size in registers.shapes)
    return noted(SHAPES, tvm.ir.StringImm(shapes), sequence([*zeros, body, *stores]))


def _parts(
    nest: tirx.Stmt,
) -> tuple[list[tirx.For], list[tirx.Expr], list[tirx.Stmt], tirx.BufferStore] | None:
    """Of loops around a store: these, the conditions on the way, what asks for weights, and the store; None
    if taps that see only padding left nothing but what asks."""
    loops, guards, asks = [], [], []
    while not isinstance(nest, tirx.BufferStore):
        if isinstance(nest, tirx.For):
            loops.append(nest)
            nest = nest.body
        elif isinstance(nest, tirx.IfThenElse) and nest.else_case is None:
            guards.append(nest.condition)
            nest = nest.then_case
        elif isinstance(nest, tirx.SeqStmt) and all(isinstance(s, tirx.Evaluate) for s in nest.seq[:-1]):
            asks += nest.seq[:-1]
            nest = nest.seq[-1]
        elif isinstance(nest, tirx.Evaluate):
            return None
        else:
            raise AssertionError(f"{TILES}: {nest}, expected loops around one store")
    return loops, guards, asks, nest


def _product(
    store: tirx.BufferStore, tile: dict[str, tirx.For], guards: list[tirx.Expr],
    fixed: Sequence[tuple[tirx.Var, tirx.Expr]],
) -> tuple[_Tile, _Tile, _Tile] | None:
    """The tiles of sums, and of their factors by rows and by columns, of ``store``, with some variables
    ``fixed``; None if ``guards`` leave nothing of them."""
    analyzer = tvm.sym.Analyzer()

    def at(expr: tirx.Expr, **places: int) -> tirx.Expr:
        own = [(loop.loop_var, loop.min + places.get(role, 0)) for role, loop in tile.items()]
        for var, value in (*fixed, *own):
            expr = substitute(expr, var, value)
        return analyzer.simplify(expr)

    def count(role: str) -> int:
        """Iterations of the loop of ``role`` that all guards let pass, which are its first ones."""
        extent = int(tile[role].extent) if role in tile else 1
        able = (all(bool(at(guard, **{role: n})) for guard in guards) for n in range(extent))
        return sum(takewhile(bool, able))

    def laid_out(load: tvm.ir.TensorLoad, size: int, row: str, column: str) -> _Tile:
        (index,), bytes_each = load.indices, tvm.DataType(str(load.source.dtype)).itemsize
        first, step = at(index), analyzer.simplify(at(index, **{row: 1}) - at(index))
        assert int(analyzer.simplify(at(index, **{column: 1}) - at(index))) * bytes_each in (0, _WORD)
        apart = int(step) * bytes_each if row in tile else size
        return _Tile(tirx.BufferLoad(load.source, [first]), apart, (count(row), size))

    calls: list[tvm.ir.Call] = []
    tvm_ffi.structural_walk(store.value, [(tvm.ir.Call, calls.append)])
    words = next(call.args for call in calls if call.op.name.startswith(f"tvmconv.{AMX}"))
    x, w = (word.args[0] if isinstance(word, tvm.ir.Call) else word for word in words)
    turned = _varies(x, tile.get(COLUMNS)) or _varies(w, tile.get(ROWS))
    left, right = (w, x) if turned else (x, w)
    rows, columns, depth = (count(role) for role in (ROWS, COLUMNS, DEPTH))
    if not rows or not columns:
        return None
    return (
        laid_out(tirx.BufferLoad(store.buffer, store.indices), columns * _WORD, ROWS, COLUMNS),
        laid_out(left, depth * _WORD, ROWS, DEPTH),
        laid_out(right, columns * _WORD, DEPTH, COLUMNS),
    )


def _varies(load: tvm.ir.TensorLoad, loop: tirx.For | None) -> bool:
    return loop is not None and mentions(load.indices[0], loop.loop_var)


MultiplyTiles = func_pass("tvmconv.MultiplyTiles", _multiplied)
