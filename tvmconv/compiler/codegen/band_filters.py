"""Depthwise rows of a block: from x itself, where nothing is to be expanded, or from the ring."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.nest import Array, Index, held, in_tiles, loop, named, tile
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC, MOST_TAPS


def filter_in_place(bands: Any, n: Index, row: Index, o: Index, filtered: Array) -> tirx.Stmt:
    """A depthwise row, all channels, from x itself: taps outside are left out, those in columns outside
    while this is written."""
    spec, lanes, (high, wide) = bands.spec, bands.lanes, bands.spec.in_spatial
    (tall, long), channels, columns = spec.kernel, spec.channels, spec.out_spatial[1]
    x, w, (top, left) = bands.arrays["x"], bands.arrays["packed_w"], (lo for lo, _ in spec.padding)
    upper, uppers = named("upper", row * spec.stride[0] - top)
    to, tos = named("to", o * (columns * bands.wide))
    nothing = tirx.Evaluate(tirx.const(0, "int32"))

    def inside(ky: int) -> tirx.Expr:
        at = upper + ky * spec.dilation[0]
        return tirx.And(tirx.GE(at, 0), tirx.LT(at, high))

    def column(p: Index, kx: int) -> Index:
        return p * spec.stride[1] + kx * spec.dilation[1] - left

    def taps_of(p: int) -> list[int]:
        return [kx for kx in range(long) if 0 <= column(p, kx) < wide]

    def one(v: Index, p: Index, count: int, taps: list[int], every: bool) -> tirx.Stmt:
        sums, made = held(count * lanes, ACC, "sums")
        stmts = [made, *bands.start(sums, "", v * lanes, count, lanes)]
        for ky in range(tall):
            line, lines = named("line", (n * high + upper + ky * spec.dilation[0]) * wide)
            terms = [lines]
            for kx in taps:
                weight = (v * spec.taps + ky * long + kx) * lanes
                for r in range(count):
                    seen = line + column(p + r, kx)
                    terms.append(tile(lanes, lanes, lambda i, r=r, seen=seen, weight=weight: sums.put(
                        r * lanes + i,
                        sums.at(r * lanes + i) + x.at(seen, v * lanes + i) * w.at(weight + i))))
            part = sequence(terms)
            stmts.append(part if every else tirx.IfThenElse(inside(ky), part, nothing))
        stmts += [tile(lanes, lanes, lambda i, r=r: filtered.put(
            to + (p + r) * bands.wide + v * lanes + i,
            bands.filtered(sums.at(r * lanes + i), v * lanes + i)))
            for r in range(count)]  # fmt: skip
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
        tirx.IfThenElse(tirx.And(inside(0), inside(tall - 1)), line(True), line(False)),
    ])  # fmt: skip


def filter_in_ring(
    bands: Any, row: Index, o: Index, c: Index, ring: Array, filtered: Array
) -> tirx.Stmt:
    """A depthwise row, chunk ``c`` of it: a vector of channels at a time."""
    spec, chunk, lanes = bands.spec, bands.packing.chunk, bands.lanes
    (tall, long), wide = spec.kernel, spec.out_spatial[1]
    w = bands.arrays["packed_w"]

    def line(ky: Index) -> tirx.Expr:
        slot = tirx.truncmod(row * spec.stride[0] + ky * spec.dilation[0], bands.ring)
        return (c * bands.ring + slot) * (bands.across * chunk)

    written = spec.taps <= MOST_TAPS
    lines = [named(f"line{ky}", line(ky)) for ky in range(tall if written else 0)]
    to, tos = named("to", o * (wide * bands.wide) + c * chunk)

    def one(v: Index, p: Index, count: int) -> tirx.Stmt:
        sums, made = held(count * lanes, ACC, "sums")

        def tap(at: tirx.Expr, ky: Index, kx: Index) -> tirx.Stmt:
            weight = (c * spec.taps + ky * long + kx) * chunk + v
            stmts = []
            for r in range(count):
                column = (p + r) * spec.stride[1] + kx * spec.dilation[1]
                seen = at + column * chunk + v
                stmts.append(tile(lanes, lanes, lambda i, r=r, seen=seen: sums.put(
                    r * lanes + i, sums.at(r * lanes + i) + ring.at(seen + i) * w.at(weight + i))))
            return sequence(stmts)

        if written:
            taps = [tap(lines[ky][0], ky, kx) for ky in range(tall) for kx in range(long)]
        else:
            taps = [loop(tall, lambda ky: loop(long, lambda kx: tap(line(ky), ky, kx)))]
        stored = [tile(lanes, lanes, lambda i, r=r: filtered.put(
            to + (p + r) * bands.wide + v + i,
            bands.filtered(sums.at(r * lanes + i), c * chunk + v + i)))
            for r in range(count)]  # fmt: skip
        return sequence([made, *bands.start(sums, "", c * chunk + v, count, lanes), *taps, *stored])

    vectors = loop(chunk // lanes, lambda v: in_tiles(
        wide, bands.point["filtered"], lambda p, count: one(v * lanes, p, count)))  # fmt: skip
    return sequence([*(stmt for _, stmt in lines), tos, vectors])
