"""What a generated loop nest does, found by walking it: the multiply-adds that it executes."""

import operator

import tvm
from tvm import tirx

from tvmconv.compiler.codegen import kernel
from tvmconv.compiler.lower import pipeline
from tvmconv.schedules.machines import resolve

_BINARY = {
    tirx.Add: operator.add, tirx.Sub: operator.sub, tirx.Mul: operator.mul, tirx.FloorDiv: operator.floordiv,
    tirx.FloorMod: operator.mod, tirx.Min: min, tirx.Max: max, tirx.LT: operator.lt, tirx.LE: operator.le,
    tirx.GT: operator.gt, tirx.GE: operator.ge, tirx.EQ: operator.eq, tirx.NE: operator.ne,
}  # fmt: skip


def loop_nest(spec, target):
    """The body of the kernel as it is just before its loops become vectors and machine code."""
    machine = resolve(target)
    module = kernel.module_of(kernel.symbol_of(spec), kernel.scheduled(spec, machine))
    with kernel.llvm_target(machine) as llvm:
        module = tirx.transform.BindTarget(llvm.with_host(llvm))(module)
        module = tvm.ir.transform.Sequential(pipeline._shaping())(module)
    return module[kernel.symbol_of(spec)].body


def multiply_adds(stmt, values=None):
    """How many stores ``place = place + a * b`` the statement executes: each loop is run, each condition is
    evaluated, nothing is computed."""
    values = {} if values is None else values
    if isinstance(stmt, tirx.SeqStmt):
        return sum(multiply_adds(s, values) for s in stmt.seq)
    if isinstance(stmt, tirx.AttrStmt):
        return multiply_adds(stmt.body, values)
    if isinstance(stmt, tirx.Bind):
        values[stmt.var] = _value(stmt.value, values)
        return 0
    if isinstance(stmt, tirx.IfThenElse):
        if _value(stmt.condition, values):
            return multiply_adds(stmt.then_case, values)
        return 0 if stmt.else_case is None else multiply_adds(stmt.else_case, values)
    if isinstance(stmt, tirx.For):
        first, count = _value(stmt.min, values), _value(stmt.extent, values)
        total = 0
        for value in range(first, first + count):
            values[stmt.loop_var] = value
            total += multiply_adds(stmt.body, values)
        return total
    if isinstance(stmt, tirx.BufferStore):
        return int(isinstance(stmt.value, tirx.Add) and isinstance(stmt.value.b, tirx.Mul))
    if isinstance(stmt, tirx.AllocBuffer | tirx.Evaluate):
        return 0
    raise AssertionError(f"not known here: {type(stmt)}")


def _value(expr, values):
    """The integer value of an index or a condition."""
    if isinstance(expr, tirx.IntImm):
        return int(expr.value)
    if isinstance(expr, tirx.Var):
        return values[expr]
    if isinstance(expr, tirx.And):
        return bool(_value(expr.a, values) and _value(expr.b, values))
    if isinstance(expr, tirx.Or):
        return bool(_value(expr.a, values) or _value(expr.b, values))
    if isinstance(expr, tirx.Not):
        return not _value(expr.a, values)
    if type(expr) in _BINARY:
        return _BINARY[type(expr)](_value(expr.a, values), _value(expr.b, values))
    if isinstance(expr, tvm.ir.Call) and expr.op.name.endswith(".likely"):
        return _value(expr.args[0], values)
    raise AssertionError(f"not known here: {type(expr)} {expr}")
