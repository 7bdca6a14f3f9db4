"""Values that an expression names by ``Let``, kept in variables on the stack, which LLVM promotes to
registers.

For every ``Let``, TVM's code generation simplifies the value with all names in it inlined, recursively: for
the polynomials of an activation that makes trees of millions of nodes.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.rewrite import func_pass, is_choice, sequence
from tvmconv.compiler.lower.words import lanes_of


def _spelled_out(store: tirx.BufferStore) -> tirx.Stmt:
    named: dict[tirx.Var, tirx.Expr] = {}

    def note(let: tirx.Let) -> tirx.Expr:
        named[let.var] = let.value
        return let.body

    value = tvm_ffi.structural_map(store.value, [(tirx.Let, note)])
    if not named or _chooses(store.value):
        return store
    loads: dict[tirx.Var, tirx.Expr] = {}
    stmts: list[tirx.Stmt] = []

    def with_loads(expr: tirx.Expr) -> tirx.Expr:
        """``expr`` with its names loaded; their variables are set first."""
        tvm_ffi.structural_walk(expr, [(tirx.Var, set_variable)])
        return tvm_ffi.structural_map(expr, [(tirx.Var, lambda var: loads.get(var, var))])

    def set_variable(var: tirx.Var) -> None:
        if var not in named or var in loads:
            return
        found = with_loads(named[var])
        lanes = lanes_of(found)
        kind = tvm.DataType(str(found.ty.dtype))
        buffer = tirx.decl_buffer((lanes,), str(kind.with_lanes(1)), var.name, scope="local")
        at = tirx.Ramp(0, 1, lanes) if lanes > 1 else tirx.const(0, "int32")
        stmts.extend([tirx.AllocBuffer(buffer), tirx.BufferStore(buffer, found, [at])])
        loads[var] = tirx.BufferLoad(buffer, [at])

    value = with_loads(value)
    return sequence([*stmts, tirx.BufferStore(store.buffer, value, store.indices)])


def _chooses(value: tirx.Expr) -> bool:
    """Whether there is a choice with a branch that may name what cannot be computed elsewhere."""
    calls: list[tvm.ir.Call] = []
    tvm_ffi.structural_walk(value, [(tvm.ir.Call, calls.append)])
    return any(map(is_choice, calls))


SpellOutLets = func_pass(
    "tvmconv.SpellOutLets", lambda body: tvm_ffi.structural_map(body, [(tirx.BufferStore, _spelled_out)])
)
