"""Rows of x as a block of 8-bit integers first multiplies them."""

from __future__ import annotations

from typing import Any

from tvm import tirx

from tvmconv.compiler.codegen.nest import Index, itemsize, loop, named, vectors
from tvmconv.compiler.lower.rewrite import sequence


def row_of_words(bands: Any, n: Index, row: Index) -> tirx.Stmt:
    """A row of the padded image into ``bands.lines``, every pixel filled up to whole words with zeros."""
    spec, does, lines, whole = bands.spec, bands.does, bands.lines, bands.inputs
    (high, wide), inputs, top = spec.in_spatial, spec.in_channels, spec.padding[0][0]
    lanes = bands.lanes * (4 // itemsize(does.element))
    at, ats = named("at", tirx.truncmod(row, bands.ring) * bands.pitch)
    source, sources = named("source", (n * high + row - top) * (wide * inputs))

    def copied(to: Index, of: Index, count: int) -> tirx.Stmt:
        return vectors(count, lanes, lambda i: lines.put(at + to + i, does.read(source + of + i)))

    def pixel(p: Index) -> tirx.Stmt:
        zero = tirx.const(0, does.element)
        rest = [lines.put(at + p * whole + i, zero) for i in range(inputs, whole)]
        return sequence([copied(p * whole, p * inputs, inputs), *rest])

    body = copied(0, 0, wide * inputs) if inputs == whole else loop(wide, pixel)
    inside = tirx.And(tirx.GE(row, top), tirx.LT(row, top + high))
    return sequence([ats, sources, tirx.IfThenElse(inside, body, tirx.Evaluate(tirx.const(0, "int32")))])
