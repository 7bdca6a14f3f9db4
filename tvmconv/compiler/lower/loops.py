"""Loops written as schedules want them: peeled at their borders, and run in parallel as one.

``tvmconv.peel = [cuts...]`` on a loop splits it before those iterations. In the outer parts a tile meets the
border of the image or is narrower than the others; in the middle part every guard is then provably true and
disappears.

``tvmconv.vectors = n`` on a loop turns each such part into vectors of n iterations, and a shorter one.

``tvmconv.parallel = n`` on a loop makes one parallel loop of it and the n - 1 loops directly inside. A loop
among them that is also peeled chooses its part by a branch.
"""

from __future__ import annotations

from itertools import pairwise

from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute, with_parts

PEEL = "tvmconv.peel"
PARALLEL = "tvmconv.parallel"
VECTORS = "tvmconv.vectors"
RANGE = "tvmconv.range"  # AttrStmt: the variable ``node`` lies in [0, value)


def shape_loops(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.For) and PARALLEL in stmt.annotations:
        return _fused(stmt, int(stmt.annotations[PARALLEL]))
    if isinstance(stmt, tirx.For) and (PEEL in stmt.annotations or VECTORS in stmt.annotations):
        body = shape_loops(stmt.body)
        return sequence([_part(stmt, body, *bounds) for bounds in _bounds(stmt)])
    return with_parts(stmt, shape_loops)


def _bounds(loop: tirx.For) -> list[tuple[int, int]]:
    cuts = [0, *(int(c) for c in loop.annotations.get(PEEL, [])), int(loop.extent)]
    return [(a, b) for a, b in pairwise(cuts) if b > a]


def _part(loop: tirx.For, body: tirx.Stmt, start: int, stop: int) -> tirx.Stmt:
    """The iterations [start, stop) of ``loop``."""
    var = loop.loop_var
    if stop - start == 1:
        return substitute(body, var, tirx.const(start, var.ty.dtype))
    if VECTORS in loop.annotations:
        return _vectors(loop, body, start, stop, int(loop.annotations[VECTORS]))
    fresh = tirx.Var(var.name, var.ty.dtype)
    inner = substitute(body, var, fresh + start if start else fresh)
    return tirx.For(fresh, 0, stop - start, loop.kind, inner)


def _vectors(loop: tirx.For, body: tirx.Stmt, start: int, stop: int, lanes: int) -> tirx.Stmt:
    """The iterations [start, stop) of ``loop`` in vectors of ``lanes``, and the rest in a shorter one."""
    var, parts = loop.loop_var, []
    whole = (stop - start) // lanes
    for first, count, width in ((start, whole, lanes), (start + whole * lanes, 1, (stop - start) % lanes)):
        outer, lane = tirx.Var(var.name, var.ty.dtype), tirx.Var("lane", var.ty.dtype)
        if count and width:
            vector = substitute(body, var, outer * width + lane + first)
            vector = tirx.For(lane, 0, width, tirx.ForKind.VECTORIZED if width > 1 else loop.kind, vector)
            parts.append(tirx.For(outer, 0, count, loop.kind, vector))
    return sequence(parts)


def _fused(outermost: tirx.For, count: int) -> tirx.Stmt:
    loops = [outermost]
    while len(loops) < count:
        loops.append(loops[-1].body)
        if not isinstance(loops[-1], tirx.For):
            raise AssertionError(f"{PARALLEL} = {count} on {outermost.loop_var}: loops not directly nested")
    index = tirx.Var("task", outermost.loop_var.ty.dtype)
    body, inner, total = shape_loops(loops[-1].body), 1, 1
    for loop in loops:
        total *= int(loop.extent)
    for loop in reversed(loops):
        extent = int(loop.extent)
        at = tirx.floordiv(index, inner) if inner > 1 else index
        body = _chosen(loop, body, tirx.floormod(at, extent) if inner * extent < total else at)
        inner *= extent
    return tirx.For(index, 0, total, tirx.ForKind.PARALLEL, body)


def _chosen(loop: tirx.For, body: tirx.Stmt, at: tirx.Expr) -> tirx.Stmt:
    """``body`` for the iteration ``at`` of ``loop``, with separate code for each of its parts."""
    var = loop.loop_var
    chosen = None
    for start, stop in reversed(_bounds(loop)):
        if stop - start == 1:
            part = substitute(body, var, tirx.const(start, var.ty.dtype))
        else:
            fresh = tirx.Var(var.name, var.ty.dtype)
            inner = substitute(body, var, fresh + start if start else fresh)
            ranged = tirx.AttrStmt(fresh, RANGE, tirx.const(stop - start, "int32"), inner)
            part = tirx.SeqStmt([tirx.Bind(fresh, at - start if start else at), ranged])
        chosen = part if chosen is None else tirx.IfThenElse(at < stop, part, chosen)
    return chosen


def parallel_loops(stmt: tirx.Stmt) -> tuple[int, ...]:
    """Iterations of the parallel loops that a call of lowered code runs, in order; () if that depends on more
    than the code."""
    found: list[int] = []

    def visit(stmt: tirx.Stmt, once: bool = True) -> bool:
        """Whether the loops inside run once each."""
        if isinstance(stmt, tirx.SeqStmt):
            return all(visit(s, once) for s in stmt.seq)
        if isinstance(stmt, tirx.AttrStmt):
            return visit(stmt.body, once)
        if isinstance(stmt, tirx.IfThenElse):
            cases = [stmt.then_case] + [stmt.else_case] * (stmt.else_case is not None)
            return all(visit(case, once=False) for case in cases)
        if not isinstance(stmt, tirx.For):
            return True
        if stmt.kind != tirx.ForKind.PARALLEL:
            return visit(stmt.body, once=False)
        found.append(int(stmt.extent))
        return once

    return tuple(found) if visit(stmt) else ()


ShapeLoops = func_pass("tvmconv.ShapeLoops", shape_loops)
