"""copy: a nest of loops for each piece, of bits. What is contiguous goes in vectors; where the dim that is so
in x is another than in y, tiles of both are transposed in registers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from tvm import tirx

from tvmconv.base.dtypes import numpy_dtype, rounded
from tvmconv.base.memory import LINE
from tvmconv.compiler.codegen.nest import (
    Array,
    Index,
    Loop,
    along,
    in_blocks,
    loop,
    moved,
    spread,
    table,
    tile,
    vectors,
)  # fmt: skip
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.schedules.cpu.tiles import FEWEST_TASKS
from tvmconv.schedules.machines import Machine
from tvmconv.specs.operators import Copy, Piece, Type
from tvmconv.specs.operators.expression import cast

_INTERLEAVED = 3  # most planes whose pixels are put together in whole vectors
_TILE = 16  # most rows and columns: of bytes, a tile of lines would be thousands of shuffles


def stored(type_: Type) -> Type:
    """The integers that stand for the bits of a type's elements."""
    return Type(type_.shape, f"uint{8 * numpy_dtype(type_.dtype).itemsize}")


def body(op: Copy, machine: Machine, inputs: list[Array], outputs: list[Array]) -> tirx.Stmt:
    """The kernel's body."""
    (y,) = outputs
    size = numpy_dtype(op.inputs[0].dtype).itemsize
    stmts: list[tirx.Stmt] = []
    if not op.is_full and op.fill is not None:
        fill = tirx.const(_bits(op), y.dtype)
        stmts.append(along([Loop(op.infer()[0].size, (1,))], machine.lanes(size),
                           lambda at, width: vectors(width, machine.lanes(size),
                                                     lambda i: y.put(at[0] + i, fill)),
                           op.infer()[0].size, 1))  # fmt: skip
    pieces = _in_place(op, inputs, y)
    rows = [found for piece in pieces if (found := _in_rows(piece)) is not None]
    if 1 < len(rows) == len(pieces) and len({(piece.sizes[0], piece.to_steps[0]) for piece in rows}) == 1:
        return sequence([*stmts, _rows(inputs, y, rows, machine.lanes(size))])
    alike: dict[tuple, list[Piece]] = defaultdict(list)
    for piece in pieces:
        alike[piece.source, piece.steps, piece.to_steps, piece.sizes].append(piece)
    for (source, *shape), pieces in alike.items():
        stmts.append(_pieces(inputs[source], y, shape, pieces, machine, size))
    return sequence(stmts)


def _in_rows(piece: Piece) -> Piece | None:
    """A piece as a loop over many rows, and one over what is contiguous in each; None for others."""
    steps, to_steps, sizes = piece.steps, piece.to_steps, piece.sizes
    if len(sizes) == 1 and 1 not in (steps[0], to_steps[0]):
        steps, to_steps, sizes = (*steps, 1), (*to_steps, 1), (*sizes, 1)
    fits = len(sizes) == 2 and steps[1] == to_steps[1] == 1 and sizes[0] >= 2 * FEWEST_TASKS
    return Piece(piece.source, piece.start, steps, piece.to, to_steps, sizes) if fits else None


def _rows(inputs: list[Array], y: Array, pieces: Sequence[Piece], lanes: int) -> tirx.Stmt:
    """Pieces of the same rows of the result, one row after the other."""
    steps = (*(piece.steps[0] for piece in pieces), pieces[0].to_steps[0])

    def part(piece: Piece, a: Index, b: Index) -> tirx.Stmt:
        x = inputs[piece.source]
        return vectors(piece.sizes[1], lanes, lambda i: y.put(b + piece.to + i, x.at(a + piece.start + i)))

    def row(at: tuple[Index, ...]) -> tirx.Stmt:
        return sequence([part(piece, a, at[-1]) for piece, a in zip(pieces, at, strict=False)])

    work = sum(piece.count for piece in pieces)
    return spread([Loop(pieces[0].sizes[0], steps)], row, len(steps), work)


def _in_place(op: Copy, inputs: list[Array], y: Array) -> list[Piece]:
    """The pieces, in arrays whose rows may lie apart."""
    found = []
    for piece in op.pieces:
        for rows, written in ((inputs[piece.source].rows, False), (y.rows, True)):
            moved_ = piece if rows is None else piece.apart(*rows, written)
            if moved_ is None:
                raise AssertionError(f"{op}: piece {piece} goes from row to row")  # see Copy.takes_pitch
            piece = moved_
        found.append(piece)
    return found


def _bits(op: Copy) -> int:
    dtype = op.inputs[0].dtype
    value = rounded(np.asarray(cast(np.array(op.fill, np.float64), dtype)), dtype)
    return int(np.ascontiguousarray(value).reshape(1).view(f"u{numpy_dtype(dtype).itemsize}")[0])


def _pieces(x: Array, y: Array, shape: Sequence[Sequence[int]], pieces: Sequence[Piece], machine: Machine,
            size: int) -> tirx.Stmt:  # fmt: skip
    """Pieces that differ only in where they begin."""
    loops = [Loop(n, (step, to_step)) for step, to_step, n in zip(*shape, strict=True)]
    if len(pieces) == 1:
        return _piece(x, y, loops, (pieces[0].start, pieces[0].to), machine, size, pieces[0].count)
    starts, made = table([piece.start for piece in pieces], "int32")
    ends, more = table([piece.to for piece in pieces], "int32")

    def one(at: tuple[Index, ...]) -> tirx.Stmt:
        return _piece(x, y, loops, (starts.at(at[0]), ends.at(at[0])), machine, size, 0)

    work = len(pieces) * pieces[0].count
    return sequence([*made, *more, spread([Loop(len(pieces), (1,))], one, 1, work)])


def _piece(x: Array, y: Array, loops: Sequence[Loop], start: tuple[Index, Index], machine: Machine, size: int,
           work: int) -> tirx.Stmt:  # fmt: skip
    lanes = machine.lanes(size)
    *outer, last = loops or [Loop(1, (0, 0))]
    crossing = next((one for one in outer if one.steps[0] == 1), None)
    if crossing is not None and last.steps[1] == 1 and last.steps[0] >= 2:
        others = [one for one in outer if one is not crossing]
        if crossing.steps[1] == last.size <= _INTERLEAVED and size in (4, 8):
            return _interleaved(x, y, others, crossing, last, start, lanes, work)
        return transposed(x, y, others, crossing, last, start, lanes, max(1, LINE // size), work)
    step, to_step = last.steps

    def row(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        a, b = moved(at, start)
        return vectors(width, lanes, lambda i: y.put(b + i * to_step, x.at(a + i * step if step else a)))

    return along([*outer, last], lanes, row, work, 2)


def _interleaved(x: Array, y: Array, others: Sequence[Loop], crossing: Loop, last: Loop,
                 start: tuple[Index, Index], lanes: int, work: int) -> tirx.Stmt:  # fmt: skip
    """``crossing`` is contiguous in x, both together in y, as in an image of few planes put channels-last:
    vectors of y that hold elements of all planes."""
    planes = last.size

    def mixed(a: Index, first: int) -> tirx.Expr:
        """The vector of y that begins at its element ``first``, of the vectors of all planes at a."""
        found = tirx.BufferLoad(x.buffer, [tirx.Ramp(a, 1, lanes)])
        for plane in range(1, planes):
            more = tirx.BufferLoad(x.buffer, [tirx.Ramp(a + plane * last.steps[0], 1, lanes)])
            places = [lane if (first + lane) % planes < plane else lanes + (first + lane) // planes
                      for lane in range(lanes)]  # fmt: skip
            if plane == 1:
                places = [place if place >= lanes else (first + place) // planes for place in places]
            found = tirx.Shuffle([found, more], [tirx.const(place, "int32") for place in places])
        return found

    def rows(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        a, b = moved(at, start)
        if width == lanes:
            starts = range(0, planes * lanes, lanes)
            return sequence([
                tirx.BufferStore(y.buffer, mixed(a, first), [tirx.Ramp(b + first, 1, lanes)])
                for first in starts
            ])  # fmt: skip
        return loop(width, lambda i: sequence([
            y.put(b + i * planes + plane, x.at(a + i + plane * last.steps[0])) for plane in range(planes)
        ]))  # fmt: skip

    return in_blocks(others, crossing, lanes, rows, work)


def transposed(x: Array, y: Array, others: Sequence[Loop], crossing: Loop, last: Loop,
                start: tuple[Index, Index], lanes: int, block: int, work: int) -> tirx.Stmt:  # fmt: skip
    """``crossing`` is contiguous in x, ``last`` in y."""
    lanes, block = min(lanes, _TILE), min(block, _TILE, crossing.size, last.steps[0])

    def rows(at: tuple[Index, ...], width: int) -> tirx.Stmt:
        at = moved(at, start)

        def part(first: int, count: int, span: int) -> tirx.Stmt:
            return loop(count, lambda q: _tile(q * span + first, span))

        def _tile(q: Index, span: int) -> tirx.Stmt:
            a, b = at[0] + q * last.steps[0], at[1] + q
            return loop(width, lambda j: tile(span, lanes, lambda i: y.put(
                b + j * crossing.steps[1] + i, x.at(a + j + i * last.steps[0]))),
                tirx.ForKind.UNROLLED)  # fmt: skip

        span = min(lanes, last.size)
        whole = last.size // span
        parts = [part(0, whole, span)]
        if last.size % span:
            parts.append(part(whole * span, 1, last.size % span))
        return sequence(parts)

    return in_blocks(others, crossing, block, rows, work)
