"""Depthwise rows of a block that has nothing to expand, from x itself."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.nest import Array, Index, held, in_tiles, loop, named, tile
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.ops.block_packing import ACC


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
            line, lines = named("line", (n * high + upper + ky * spec.dilation[0]) * (wide * channels))
            terms = [lines]
            for kx in taps:
                weight = (v * spec.taps + ky * long + kx) * lanes
                for r in range(count):
                    seen = line + column(p + r, kx) * channels + v * lanes
                    terms.append(tile(lanes, lanes, lambda i, r=r, seen=seen, weight=weight: sums.put(
                        r * lanes + i, sums.at(r * lanes + i) + x.at(seen + i) * w.at(weight + i))))
            part = sequence(terms)
            stmts.append(part if every else tirx.IfThenElse(inside(ky), part, nothing))
        stmts += [tile(lanes, lanes, lambda i, r=r: filtered.put(
            to + (p + r) * bands.wide + v * lanes + i,
            bands.does.done("", sums.at(r * lanes + i), v * lanes + i)))
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
