"""Results made beside the products of the next tiles: software pipelining.

After products of tiles (``lower.amx``) comes a nest that makes results of their sums: work for vectors, of
more instructions than a CPU looks ahead, so that meanwhile no products are made. Where groups of tiles follow
one another, the iterations of that nest go in between the products of the next group, before these overwrite
the sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.amx_settings import has_products, is_product, is_products
from tvmconv.compiler.lower.rewrite import func_pass, sequence, substitute, with_body, with_parts

_AT_A_TIME = 2  # iterations of results, or more: what all share is loaded anew each time


@dataclass(frozen=True)
class _Group:
    """Tiles: arrays of their own, their products, and what makes results of the sums; all in ``loops``."""

    arrays: list[tirx.Stmt]
    products: tirx.AttrStmt
    results: tirx.Stmt
    loops: list[tirx.For]

    @property
    def count(self) -> int:
        return _count(self.loops)

    @property
    def condition(self) -> tirx.Expr | None:
        """What chooses between two ways to make the results."""
        return self.results.condition if isinstance(self.results, tirx.IfThenElse) else None

    def nest(self) -> tirx.Stmt:
        """The results, or where there is a choice the second way."""
        return self.results.else_case if isinstance(self.results, tirx.IfThenElse) else self.results

    def at(self, part: tirx.Stmt, number: tirx.Expr) -> tirx.Stmt:
        """``part``, in an iteration of ``loops``."""
        return _iteration(self.loops, part, number)


def _pipelined(stmt: tirx.Stmt) -> tirx.Stmt:
    if not has_products(stmt):
        return stmt
    found: list[tirx.Stmt] = []
    stmts = list(stmt.seq) if isinstance(stmt, tirx.SeqStmt) else [stmt]
    while stmts:
        groups, taken = _groups(stmts)
        if taken:
            found.append(_together(groups, sequence(stmts[:taken])))
            stmts = stmts[taken:]
        else:
            found.append(with_parts(stmts.pop(0), _pipelined))
    return sequence(found)


def _groups(stmts: Sequence[tirx.Stmt]) -> tuple[list[_Group], int]:
    """The groups that ``stmts`` begins with, and of how many statements they are."""
    groups: list[_Group] = []
    taken = 0
    while (found := _group(stmts[taken:])) is not None:
        group, count = found
        groups, taken = [*groups, group], taken + count
    return groups, taken


def _group(stmts: Sequence[tirx.Stmt]) -> tuple[_Group, int] | None:
    """The one that ``stmts`` begins with, if it can be taken apart, and of how many statements it is."""
    if stmts and isinstance(stmts[0], tirx.For) and stmts[0].kind == tirx.ForKind.SERIAL:
        body = stmts[0].body
        inside = list(body.seq) if isinstance(body, tirx.SeqStmt) else [body]
        found = _group(inside)
        if found is None or found[1] < len(inside):
            return None
        return replace(found[0], loops=[stmts[0], *found[0].loops]), 1
    at = next((at for at, stmt in enumerate(stmts) if not isinstance(stmt, tirx.AllocBuffer)), len(stmts))
    if len(stmts) < at + 2 or not is_products(stmts[at]) or has_products(stmts[at + 1]):
        return None
    group = _Group(list(stmts[:at]), stmts[at], stmts[at + 1], [])
    return (group, at + 2) if _loops(group.nest())[0] else None


def _together(groups: list[_Group], stmt: tirx.Stmt) -> tirx.Stmt:
    """``stmt``, which is ``groups``: in a row where all make results of the sums alone."""
    if sum(group.count for group in groups) < 2:
        return stmt
    made: list[tirx.Stmt] = []
    waiting: tirx.Stmt | None = None  # results of the group before
    for group in groups:
        products, nest, last = group.products, group.nest(), group.count - 1
        made += [*group.arrays, _beside(group.at(products, tirx.const(0, "int32")), waiting)]
        if last:
            var = tirx.Var("before", "int32")
            both = _beside(group.at(products, var + 1), group.at(nest, var))
            made.append(tirx.For(var, 0, last, tirx.ForKind.SERIAL, both))
        waiting = group.at(nest, tirx.const(last, "int32"))
    in_a_row = sequence([*made, waiting])
    conditions = [group.condition for group in groups]
    if all(condition is None for condition in conditions):
        return in_a_row
    if any(condition is None for condition in conditions) or _different(conditions):
        return stmt
    first = tvm_ffi.structural_map(stmt, [(tirx.IfThenElse, _first_of(conditions[0]))])
    return tirx.IfThenElse(conditions[0], first, in_a_row)


def _different(exprs: Sequence[tirx.Expr]) -> bool:
    return not all(tvm_ffi.structural_equal(exprs[0], expr) for expr in exprs)


def _first_of(condition: tirx.Expr):
    def taken(stmt: tirx.IfThenElse) -> tirx.Stmt:
        return stmt.then_case if tvm_ffi.structural_equal(stmt.condition, condition) else stmt

    return taken


def _beside(products: tirx.AttrStmt, results: tirx.Stmt | None) -> tirx.Stmt:
    """``products``, and equal shares of the iterations of ``results`` after as many of them as there are
    shares."""
    if results is None:
        return products
    stmts = list(products.body.seq)
    places = [at for at, stmt in enumerate(stmts) if is_product(stmt) or isinstance(stmt, tirx.For)]
    zeros, nest, stores = stmts[: places[0]], stmts[places[0] : places[-1] + 1], stmts[places[-1] + 1 :]
    around, step = _loops(sequence(nest))
    iterations, one = _loops(results)
    count, steps = _count(iterations), _count(around)
    made = list(step.seq) if isinstance(step, tirx.SeqStmt) else [step]
    shares = min(len(made), -(-count // (_AT_A_TIME * steps)))  # of each step
    size = -(-count // (steps * shares))
    body = []
    for share in range(shares):
        first = (_number(around) * shares + share) * size
        body += made[share * len(made) // shares : (share + 1) * len(made) // shares]
        inner = tirx.Var("share", "int32")
        at = first + inner if size > 1 else first
        work = _iteration(iterations, one, at)
        if steps * shares * size > count:
            work = tirx.IfThenElse(at < count, work, None)
        body.append(tirx.For(inner, 0, size, tirx.ForKind.SERIAL, work) if size > 1 else work)
    beside = sequence(body)
    for loop in reversed(around):
        beside = with_body(loop, beside)
    return with_body(products, sequence([*zeros, beside, *stores]))


def _loops(stmt: tirx.Stmt) -> tuple[list[tirx.For], tirx.Stmt]:
    """The serial loops around everything in ``stmt``, and what is in them."""
    found: list[tirx.For] = []
    while isinstance(stmt, tirx.For) and stmt.kind == tirx.ForKind.SERIAL:
        found.append(stmt)
        stmt = stmt.body
    return found, stmt


def _count(loops: Sequence[tirx.For]) -> int:
    """Iterations of a nest."""
    return prod(int(loop.extent) for loop in loops)


def _iteration(loops: Sequence[tirx.For], body: tirx.Stmt, number: tirx.Expr) -> tirx.Stmt:
    """``body`` in iteration ``number`` of a nest."""
    for at, loop in enumerate(loops):
        index = number // _count(loops[at + 1 :])
        body = substitute(body, loop.loop_var, loop.min + (index % int(loop.extent) if at else index))
    return body


def _number(loops: Sequence[tirx.For]) -> tirx.Expr:
    """Of the iteration of a nest, from 0 on."""
    number = tirx.const(0, "int32")
    for loop in loops:
        number = number * int(loop.extent) + (loop.loop_var - loop.min)
    return number


PipelineTiles = func_pass("tvmconv.PipelineTiles", _pipelined)
"""After ``MultiplyTiles``."""
