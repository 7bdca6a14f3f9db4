"""A small rewriter of statements: the recursion that the passes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tvm
import tvm_ffi
from tvm import tirx

_Node = TypeVar("_Node")  # a statement or an expression


def substitute(node: _Node, var: tirx.Var, value: tirx.Expr) -> _Node:
    """``node`` with every use of ``var`` replaced by ``value``."""
    return tvm_ffi.structural_map(node, [(tirx.Var, lambda v: value if v.same_as(var) else v)])


def with_body(stmt: tirx.Stmt, body: tirx.Stmt) -> tirx.Stmt:
    """A copy of a For or AttrStmt around another body."""
    if isinstance(stmt, tirx.For):
        return tirx.For(stmt.loop_var, stmt.min, stmt.extent, stmt.kind, body, stmt.thread_binding,
                        stmt.annotations, stmt.step)
    return tirx.AttrStmt(stmt.node, stmt.attr_key, stmt.value, body)


def with_parts(stmt: tirx.Stmt, rewrite: Callable[[tirx.Stmt], tirx.Stmt]) -> tirx.Stmt:
    """``stmt`` with each statement directly in it replaced by ``rewrite`` of it; itself if there is none."""
    if isinstance(stmt, tirx.SeqStmt):
        return sequence([rewrite(each) for each in stmt.seq])
    if isinstance(stmt, tirx.IfThenElse):
        orelse = None if stmt.else_case is None else rewrite(stmt.else_case)
        return tirx.IfThenElse(stmt.condition, rewrite(stmt.then_case), orelse)
    return with_body(stmt, rewrite(stmt.body)) if isinstance(stmt, tirx.For | tirx.AttrStmt) else stmt


def iterations(loop: tirx.For) -> list[tirx.Stmt]:
    """The body of a loop of known bounds, once for each value of its variable."""
    first = int(loop.min)
    values = (tirx.const(v, loop.loop_var.ty.dtype) for v in range(first, first + int(loop.extent)))
    return [substitute(loop.body, loop.loop_var, value) for value in values]


def mentions(expr: tirx.Expr, var: tirx.Var) -> bool:
    """Whether ``var`` is in it."""
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expr, [(tirx.Var, found.append)])
    return any(each.same_as(var) for each in found)


def is_choice(expr: tirx.Expr) -> bool:
    """Whether it is one of two values, of which the other is not computed."""
    return isinstance(expr, tvm.ir.Call) and expr.op.name == "prim.if_then_else"


def sequence(stmts: list[tirx.Stmt]) -> tirx.Stmt:
    return stmts[0] if len(stmts) == 1 else tirx.SeqStmt(stmts)


def func_pass(name: str, rewrite):
    """A TVM pass that replaces each function's body by ``rewrite(body)``."""

    @tvm.tirx.transform.prim_func_pass(opt_level=0, name=name)
    def run(func, _mod, _ctx):
        return func.with_body(rewrite(func.body))

    return run
