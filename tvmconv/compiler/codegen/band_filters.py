"""Depthwise rows of a block: from x itself, where nothing is to be expanded, or from the ring.

A register tile is pixels of one row, or of two, which then share what both see.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.nest import Array, Index, as_expr, counted, held, in_tiles, loop, named, tile
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC, MOST_TAPS
from tvmconv.specs.block import BlockSpec


def in_rows(bands: Any, count: Index, body: Callable[[Index, int], tirx.Stmt]) -> tirx.Stmt:
    """``body(first, rows)`` for tiles of one or two rows of ``count``, known at run time."""
    tall, rows, tasks = (bands.point[name] for name in ("tall", "rows", "tasks"))
    if tall == 1:
        return counted(count, lambda o: body(o, 1))
    pairs = counted(tirx.truncdiv(as_expr(count), 2), lambda o: body(o * 2, 2))
    if rows % 2 == bands.spec.out_spatial[0] % (2 * tasks) == 0:
        return pairs  # of every step
    odd = tirx.EQ(tirx.truncmod(as_expr(count), 2), 1)
    last = tirx.IfThenElse(odd, body(as_expr(count) - 1, 1), tirx.Evaluate(tirx.const(0, "int32")))
    return sequence([pairs, last])


def _lines(spec: BlockSpec, rows: int) -> dict[int, list[tuple[int, int]]]:
    """The rows of the image that so many rows of the result see, from the first of them on: of each, which
    rows, and by which of their rows of taps."""
    found: dict[int, list[tuple[int, int]]] = {}
    for o in range(rows):
        for ky in range(spec.kernel[0]):
            found.setdefault(o * spec.stride[0] + ky * spec.dilation[0], []).append((o, ky))
    return dict(sorted(found.items()))


def filter_in_place(bands: Any, n: Index, row: Index, o: Index, rows: int, filtered: Array) -> tirx.Stmt:
    """Depthwise rows, all channels, from x itself: taps outside are left out, those in columns outside while
    this is written."""
    spec, lanes, (high, wide) = bands.spec, bands.lanes, bands.spec.in_spatial
    long, channels, columns = spec.kernel[1], spec.channels, spec.out_spatial[1]
    x, w, (top, left) = bands.arrays["x"], bands.arrays["packed_w"], (lo for lo, _ in spec.padding)
    upper, uppers = named("upper", row * spec.stride[0] - top)
    to, tos = named("to", o * (columns * bands.wide))
    nothing = tirx.Evaluate(tirx.const(0, "int32"))

    seen_lines = _lines(spec, rows)

    def inside(line: int) -> tirx.Expr:
        at = upper + line
        return tirx.And(tirx.GE(at, 0), tirx.LT(at, high))

    def column(p: Index, kx: int) -> Index:
        return p * spec.stride[1] + kx * spec.dilation[1] - left

    def taps_of(p: int) -> list[int]:
        return [kx for kx in range(long) if 0 <= column(p, kx) < wide]

    def one(v: Index, p: Index, count: int, taps: list[int], every: bool) -> tirx.Stmt:
        sums, made = held(rows * count * lanes, ACC, "sums")
        stmts = [made, *bands.start(sums, "", v * lanes, rows * count, lanes)]
        for q, users in seen_lines.items():
            line, lines = named("line", (n * high + upper + q) * wide)
            terms = [lines]
            for (at, ky), kx, r in product(users, taps, range(count)):
                weight, seen = (v * spec.taps + ky * long + kx) * lanes, line + column(p + r, kx)
                to_sum = (at * count + r) * lanes
                terms.append(tile(lanes, lanes, lambda i, s=to_sum, seen=seen, weight=weight: sums.put(
                    s + i, sums.at(s + i) + x.at(seen, v * lanes + i) * w.at(weight + i))))  # fmt: skip
            part = sequence(terms)
            stmts.append(part if every else tirx.IfThenElse(inside(q), part, nothing))
        stmts += [tile(lanes, lanes, lambda i, at=at, r=r: filtered.put(
            to + (at * columns + p + r) * bands.wide + v * lanes + i,
            bands.filtered(sums.at((at * count + r) * lanes + i), v * lanes + i)))
            for at, r in product(range(rows), range(count))]  # fmt: skip
        return sequence(stmts)

    def pixels(p: Index, count: int, taps: list[int], every: bool) -> tirx.Stmt:
        return loop(channels // lanes, lambda v: one(v, p, count, taps, every))

    whole = [p for p in range(columns) if len(taps_of(p)) == long]
    first, last = (whole[0], whole[-1] + 1) if whole else (columns, columns)

    def line(every: bool) -> tirx.Stmt:
        stmts = [pixels(p, 1, taps_of(p), every) for p in range(first)]
        if whole:
            stmts.append(in_tiles(last - first, bands.point["filtered"], lambda p, count: pixels(
                p + first, count, list(range(long)), every)))  # fmt: skip
        return sequence(stmts + [pixels(p, 1, taps_of(p), every) for p in range(last, columns)])

    if not any(spec.padding[0]):
        return sequence([uppers, tos, line(True)])
    return sequence([
        uppers, tos,
        tirx.IfThenElse(tirx.And(inside(0), inside(max(seen_lines))), line(True), line(False)),
    ])  # fmt: skip


def filter_in_ring(
    bands: Any, row: Index, o: Index, rows: int, c: Index, ring: Array, filtered: Array
) -> tirx.Stmt:
    """Depthwise rows, chunk ``c`` of them: a vector of channels at a time."""
    spec, chunk, lanes = bands.spec, bands.packing.chunk, bands.lanes
    (tall, long), wide = spec.kernel, spec.out_spatial[1]
    w = bands.arrays["packed_w"]

    def line(q: Index) -> tirx.Expr:
        slot = tirx.truncmod(row * spec.stride[0] + q, bands.ring)
        return (c * bands.ring + slot) * (bands.across * chunk)

    written = spec.taps <= MOST_TAPS
    seen_lines = _lines(spec, rows) if written else {}
    lines = {q: named(f"line{q}", line(q)) for q in seen_lines}
    to, tos = named("to", o * (wide * bands.wide) + c * chunk)

    def one(v: Index, p: Index, count: int) -> tirx.Stmt:
        sums, made = held(rows * count * lanes, ACC, "sums")

        def tap(at: tirx.Expr, o: int, ky: Index, kx: Index) -> tirx.Stmt:
            weight = (c * spec.taps + ky * long + kx) * chunk + v
            stmts = []
            for r in range(count):
                column = (p + r) * spec.stride[1] + kx * spec.dilation[1]
                seen = at + column * chunk + v
                stmts.append(tile(lanes, lanes, lambda i, r=o * count + r, seen=seen: sums.put(
                    r * lanes + i, sums.at(r * lanes + i) + ring.at(seen + i) * w.at(weight + i))))
            return sequence(stmts)

        if written:
            taps = [tap(lines[q][0], at, ky, kx) for q, users in seen_lines.items()
                    for (at, ky), kx in product(users, range(long))]  # fmt: skip
        else:
            taps = [loop(tall, lambda ky: loop(long, lambda kx: tap(line(ky * spec.dilation[0]), 0, ky, kx)))]
        stored = [tile(lanes, lanes, lambda i, at=at, r=r: filtered.put(
            to + (at * wide + p + r) * bands.wide + v + i,
            bands.filtered(sums.at((at * count + r) * lanes + i), c * chunk + v + i)))
            for at, r in product(range(rows), range(count))]  # fmt: skip
        return sequence([made, *bands.start(sums, "", c * chunk + v, rows * count, lanes), *taps, *stored])

    vectors = loop(chunk // lanes, lambda v: in_tiles(
        wide, bands.point["filtered"], lambda p, count: one(v * lanes, p, count)))  # fmt: skip
    return sequence([*(stmt for _, stmt in lines.values()), tos, vectors])
