"""Choices that are the same for a whole nest of loops, made before it.

``tvmconv.once = 1`` on a loop: where values in it are chosen (``if_then_else``) by what no loop in it
changes, there is one nest for each case. What is computed right before it for one case only is computed
there. (LLVM would test once an iteration, or compute both.)
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, is_choice, mentions, sequence, with_parts

ONCE = "tvmconv.once"


def _chosen(stmt: tirx.Stmt) -> tirx.Stmt:
    if isinstance(stmt, tirx.SeqStmt):
        found: list[tirx.Stmt] = []
        for each in map(_chosen, stmt.seq):
            found.append(_with_what_it_needs(found, each) if _is_for_two_cases(each) else each)
        return sequence(found)
    if isinstance(stmt, tirx.For) and ONCE in stmt.annotations:
        return _cases(stmt)
    return with_parts(stmt, _chosen)


def _cases(nest: tirx.For) -> tirx.Stmt:
    inside: list[tirx.Var] = []
    tvm_ffi.structural_walk(nest, [(tirx.For, lambda loop: inside.append(loop.loop_var))])
    asked: list[tirx.Expr] = []

    def note(call: tvm.ir.Call) -> None:
        if is_choice(call) and not any(mentions(call.args[0], var) for var in inside):
            asked.append(call.args[0])

    tvm_ffi.structural_walk(nest, [(tvm.ir.Call, note)])
    if not asked:
        return nest

    def taken(case: int) -> tirx.Stmt:
        def pick(call: tvm.ir.Call) -> tirx.Expr:
            known = is_choice(call) and tvm_ffi.structural_equal(call.args[0], asked[0])
            return call.args[case] if known else call

        return tvm_ffi.structural_map(nest, [(tvm.ir.Call, pick)])

    return tirx.IfThenElse(asked[0], taken(1), taken(2))


def _is_for_two_cases(stmt: tirx.Stmt) -> bool:
    return (
        isinstance(stmt, tirx.IfThenElse) and stmt.else_case is not None
        and isinstance(stmt.then_case, tirx.For) and ONCE in stmt.then_case.annotations
    )  # fmt: skip


def _with_what_it_needs(before: list[tirx.Stmt], cases: tirx.IfThenElse) -> tirx.Stmt:
    """``cases``, the first with the nests at the end of ``before`` that only it reads the arrays of; they are
    taken from there."""
    first = [cases.then_case]
    while before and isinstance(before[-1], tirx.For | tirx.IfThenElse):
        if any(_reads(cases.else_case, buffer) for buffer in _stored(before[-1])):
            break
        first.insert(0, before.pop())
    return tirx.IfThenElse(cases.condition, sequence(first), cases.else_case)


def _stored(stmt: tirx.Stmt) -> list[tirx.Buffer]:
    found: list[tirx.BufferStore] = []
    tvm_ffi.structural_walk(stmt, [(tirx.BufferStore, found.append)])
    return [store.buffer for store in found]


def _reads(stmt: tirx.Stmt, buffer: tirx.Buffer) -> bool:
    found: list[tvm.ir.TensorLoad] = []
    tvm_ffi.structural_walk(stmt, [(tvm.ir.TensorLoad, found.append)])
    return any(load.source.same_as(buffer) for load in found)


ChooseOnce = func_pass("tvmconv.ChooseOnce", _chosen)
"""Before loops are peeled and unrolled."""
