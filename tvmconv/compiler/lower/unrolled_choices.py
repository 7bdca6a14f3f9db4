"""Choices by a loop variable, such as the rows of Winograd's matrices: an unrolled loop whose iterations
choose is expanded, and each keeps only its choice.

TVM would simplify such a choice too, but not once it is vectorised: every iteration would then carry the work
of all others as far as LLVM.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, iterations, sequence


def write_out_choices(body: tirx.Stmt) -> tirx.Stmt:
    return tvm_ffi.structural_map(body, [(tirx.For, _written_out)])


def _written_out(loop: tirx.For) -> tirx.Stmt:
    if loop.kind != tirx.ForKind.UNROLLED or not _chooses(loop):
        return loop
    return sequence([_chosen(body) for body in iterations(loop)])


def _chooses(loop: tirx.For) -> bool:
    found = []

    def note(choice: tirx.Select) -> None:
        asked = choice.condition
        found.append(isinstance(asked, tirx.EQ) and asked.a.same_as(loop.loop_var))

    tvm_ffi.structural_walk(loop.body, [(tirx.Select, note)])
    return any(found)


def _chosen(stmt: tirx.Stmt) -> tirx.Stmt:
    analyzer = tvm.sym.Analyzer()

    def pick(choice: tirx.Select) -> tirx.Expr:
        known = analyzer.simplify(choice.condition)
        if not isinstance(known, tirx.IntImm):
            return choice
        return choice.true_value if known.value else choice.false_value

    return tvm_ffi.structural_map(stmt, [(tirx.Select, pick)])


WriteOutChoices = func_pass("tvmconv.WriteOutChoices", write_out_choices)
