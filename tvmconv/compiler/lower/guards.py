"""Guards: conditions moved to where they cost least.

A zero of the padding adds nothing to a sum, so ``acc += (inside ? x : 0) * w`` becomes a guarded statement
``if inside: acc += x * w``. Each part of a guard is then dropped if the loops' ranges prove it, and moved out
of every loop that it does not depend on (a row of the kernel above the image is skipped as a whole); if it
depends on only one loop variable, that loop runs over fewer values instead: the last vector of an odd channel
count is a shorter vector.
"""

from __future__ import annotations

import tvm
import tvm_ffi
from tvm import tirx

from tvmconv.compiler.lower.loops import RANGE
from tvmconv.compiler.lower.rewrite import func_pass, is_choice, iterations, substitute, with_body, with_parts

Guards = list[tirx.Expr]
_NEVER = tirx.const(False, "bool")
_LONGEST_SHRUNK = 256  # loops of register tiles and vectors; longer ones keep their guard
_LONGEST_WRITTEN_OUT = 16


def _conjuncts(condition: tirx.Expr) -> Guards:
    if isinstance(condition, tirx.And):
        return _conjuncts(condition.a) + _conjuncts(condition.b)
    if isinstance(condition, tvm.ir.Call) and condition.op.name.endswith(".likely"):
        return _conjuncts(condition.args[0])
    return [condition]


def _is_const(expr: tirx.Expr, value: bool) -> bool:
    return isinstance(expr, tirx.IntImm) and bool(expr.value) is value


def _uses(expr: tirx.Expr) -> list[tirx.Var]:
    found: list[tirx.Var] = []

    def note(v):
        if not any(v.same_as(f) for f in found):
            found.append(v)

    tvm_ffi.structural_walk(expr, [(tirx.Var, note)])
    return found


def _guarded(guards: Guards, stmt: tirx.Stmt) -> tirx.Stmt:
    if not guards:
        return stmt
    if any(_is_const(g, False) for g in guards):
        return tirx.Evaluate(tirx.const(0, "int32"))
    return tirx.IfThenElse(tirx.all(*guards), stmt, None)


class _Mover:
    def __init__(self) -> None:
        self.analyzer = tvm.sym.Analyzer()

    def run(self, body: tirx.Stmt) -> tirx.Stmt:
        return _guarded(*self.visit(body))

    def visit(self, stmt: tirx.Stmt) -> tuple[Guards, tirx.Stmt]:
        """(guards, statement) that together mean ``stmt``."""
        if isinstance(stmt, tirx.AttrStmt) and stmt.attr_key == RANGE:
            self.analyzer.bind(stmt.node, tvm.ir.Range.from_min_extent(0, stmt.value))
            return [], self.run(stmt.body)
        if isinstance(stmt, tirx.IfThenElse) and stmt.else_case is None:
            guards, body = self.visit(stmt.then_case)
            return self.simplify(_conjuncts(stmt.condition)) + guards, body
        if isinstance(stmt, tirx.For):
            return self.visit_for(stmt)
        if isinstance(stmt, tirx.BufferStore):
            return self.visit_store(stmt)
        return [], with_parts(stmt, self.run)

    def simplify(self, guards: Guards) -> Guards:
        simple = [self.analyzer.simplify(g) for g in guards]
        if any(_is_const(g, False) for g in simple):
            return [_NEVER]
        return [g for g in simple if not _is_const(g, True)]

    def visit_store(self, store: tirx.BufferStore) -> tuple[Guards, tirx.Stmt]:
        split = masked_sum(store)
        if split is None:
            if is_choice(store.value):  # a copy with its padding: known to be inside, or not
                store = tirx.BufferStore(store.buffer, self.analyzer.simplify(store.value), store.indices)
            return [], store
        condition, value = split
        return self.simplify(_conjuncts(condition)), tirx.BufferStore(store.buffer, value, store.indices)

    def visit_for(self, loop: tirx.For) -> tuple[Guards, tirx.Stmt]:
        var = loop.loop_var
        if self.shares_a_guard(loop):
            return [], self.run(tirx.SeqStmt(iterations(loop)))
        self.analyzer.bind(var, tvm.ir.Range.from_min_extent(loop.min, loop.extent))
        guards, body = self.visit(loop.body)
        outer, own, inner = [], [], []
        for guard in guards:
            used = _uses(guard)
            if not any(v.same_as(var) for v in used):
                outer.append(guard)
            elif len(used) == 1 and int(loop.extent) <= _LONGEST_SHRUNK:
                own.append(guard)
            else:
                inner.append(guard)
        if not own:
            return outer, with_body(loop, _guarded(inner, body))
        start, stop = self.true_range(loop, own)
        if stop <= start:
            return [_NEVER], body
        if stop - start == int(loop.extent):
            return outer, with_body(loop, _guarded(inner, body))
        if stop - start == 1:  # also because a vector of one lane is not a vector
            return outer, substitute(_guarded(inner, body), var, tirx.const(start, var.ty.dtype))
        fresh = tirx.Var(var.name, var.ty.dtype)
        shorter = substitute(_guarded(inner, body), var, fresh + start if start else fresh)
        return outer, tirx.For(fresh, 0, stop - start, loop.kind, shorter, None, loop.annotations)

    def shares_a_guard(self, loop: tirx.For) -> bool:
        """Whether a guard depends on this unrolled loop and on one inside it (channel = vector * 16 + lane):
        when unrolled, each iteration has a guard on only the inner loop."""
        if loop.kind != tirx.ForKind.UNROLLED or not 1 < int(loop.extent) <= _LONGEST_WRITTEN_OUT:
            return False
        self.analyzer.bind(loop.loop_var, tvm.ir.Range.from_min_extent(loop.min, loop.extent))
        inner: list[tirx.Var] = []
        conditions: list[tirx.Expr] = []

        def note_loop(node: tirx.For) -> None:
            inner.append(node.loop_var)
            self.analyzer.bind(node.loop_var, tvm.ir.Range.from_min_extent(node.min, node.extent))

        tvm_ffi.structural_walk(
            loop.body,
            [(tirx.For, note_loop), (tirx.IfThenElse, lambda node: conditions.append(node.condition))],
        )
        guards = self.simplify([g for c in conditions for g in _conjuncts(c)])
        return any(
            any(v.same_as(loop.loop_var) for v in used) and any(v.same_as(i) for v in used for i in inner)
            for used in map(_uses, guards)
        )

    def true_range(self, loop: tirx.For, guards: Guards) -> tuple[int, int]:
        """[start, stop) of the loop's values for which all ``guards``, which compare only it, hold."""
        condition, var = tirx.all(*guards), loop.loop_var
        first = int(loop.min)
        fresh = tvm.sym.Analyzer()

        def holds_at(value: int) -> bool:
            at = substitute(condition, var, tirx.const(value, var.ty.dtype))
            return _is_const(fresh.simplify(at), True)

        holds = [holds_at(v) for v in range(first, first + int(loop.extent))]
        if True not in holds:
            return 0, 0
        start, count = holds.index(True), sum(holds)
        if not all(holds[start : start + count]):
            raise AssertionError(f"guard {condition} holds on more than one range")
        return first + start, first + start + count


def masked_sum(store: tirx.BufferStore) -> tuple[tirx.Expr, tirx.Expr] | None:
    """(condition, value) of ``acc = acc + if_then_else(condition, v, 0) [* w]``, or of a maximum with
    ``if_then_else(condition, v, lowest)``; else None."""
    total = store.value
    if isinstance(total, tirx.Max) and _same_place(total.a, store):
        found = _lowest_else(total.b)
        return None if found is None else (found[0], tirx.Max(total.a, found[1]))
    if not (isinstance(total, tirx.Add) and _same_place(total.a, store)):
        return None
    found = _masked(total.b)
    return None if found is None else (tirx.all(*found[0]), total.a + found[1])


def _masked(expr: tirx.Expr) -> tuple[Guards, tirx.Expr] | None:
    """(guards, value) of an expression that is 0 where the guards fail: for a sum of several terms, the
    guards common to all."""
    if isinstance(expr, tirx.Mul):
        for one, other in ((expr.a, expr.b), (expr.b, expr.a)):
            found = _masked(one)
            if found is not None:
                return found[0], found[1] * other
        return None
    if isinstance(expr, tirx.Add | tirx.Sub):
        terms = _masked(expr.a), _masked(expr.b)
        if None in terms:
            return None
        (first, a), (second, b) = terms
        common = [g for g in first if _has(second, g)]
        if not common:
            return None
        a, b = (
            _choice([g for g in guards if not _has(common, g)], value)
            for guards, value in ((first, a), (second, b))
        )
        return common, a + b if isinstance(expr, tirx.Add) else a - b
    if not is_choice(expr):
        return None
    condition, value, otherwise = expr.args
    zero = isinstance(otherwise, tirx.FloatImm | tirx.IntImm) and otherwise.value == 0
    return (_conjuncts(condition), value) if zero else None


def _has(guards: Guards, guard: tirx.Expr) -> bool:
    return any(tvm_ffi.structural_equal(guard, g) for g in guards)


def _choice(guards: Guards, value: tirx.Expr) -> tirx.Expr:
    """``value``, or 0 where the guards fail."""
    if not guards:
        return value
    return tirx.if_then_else(tirx.all(*guards), value, tirx.const(0, value.ty.dtype))


def _lowest_else(expr: tirx.Expr) -> tuple[tirx.Expr, tirx.Expr] | None:
    """(condition, value) of a value that is the least of its type where the condition fails."""
    if not is_choice(expr):
        return None
    condition, value, otherwise = expr.args
    kind = str(expr.ty.dtype)
    least = float("-inf") if kind.startswith("float") else tirx.min_value(kind).value
    lowest = isinstance(otherwise, tirx.FloatImm | tirx.IntImm) and otherwise.value == least
    return (condition, value) if lowest else None


def _same_place(expr: tirx.Expr, store: tirx.BufferStore) -> bool:
    return (
        isinstance(expr, tvm.ir.TensorLoad)
        and expr.source.same_as(store.buffer)
        and all(tvm_ffi.structural_equal(a, b) for a, b in zip(expr.indices, store.indices, strict=True))
    )


def _guarded_sum(store: tirx.BufferStore) -> tirx.Stmt:
    split = masked_sum(store)
    if split is None:
        return store
    condition, value = split
    return tirx.IfThenElse(condition, tirx.BufferStore(store.buffer, value, store.indices), None)


# Where it is: for threads, which have no loops over tiles, what counts is that nothing is read outside.
GuardSums = func_pass(
    "tvmconv.GuardSums", lambda body: tvm_ffi.structural_map(body, [(tirx.BufferStore, _guarded_sum)])
)
MoveGuards = func_pass("tvmconv.MoveGuards", lambda body: _Mover().run(body))


