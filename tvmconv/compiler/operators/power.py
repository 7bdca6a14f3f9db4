"""Powers of integers by repeated squaring: statements before the expression that they are part of.

As an expression, of squares of squares, TVM's simplifier would make one product of as many factors as there
are, and run out of stack.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from tvmconv.compiler.codegen.nest import held, loop
from tvmconv.compiler.lower.rewrite import sequence
from tvmconv.compiler.operators.expression import value_of
from tvmconv.compiler.operators.values import kind_of, mul, neg, number
from tvmconv.specs.operators import expression as ex
from tvmconv.specs.operators.base import INTEGERS

_SHORT = {("number", float(n)) for n in (1, 2, 3)}
"""Exponents for which a product is written."""


def taken_apart(
    tree: ex.Expression, dtypes: Sequence[str]
) -> tuple[ex.Expression, list[tuple[ex.Expression, str]]]:
    """(the expression in which further inputs stand for each power of integers to an integer, these
    powers and their types, in an order in which they can be computed)"""
    powers: list[tuple[ex.Expression, str]] = []

    def apart(e: ex.Expression) -> ex.Expression:
        head, *arguments = e
        if head in ("input", "number"):
            return e
        types = [ex.dtype_of(argument, dtypes) for argument in arguments] if head == "pow" else []
        e = (head, *map(apart, arguments))
        if head != "pow" or types[0] not in INTEGERS:
            return e
        whole = types[1] in INTEGERS or (types[1] is None and float(arguments[1][1]).is_integer())
        if arguments[1] in _SHORT or not whole:
            return e
        powers.append((e, str(types[0])))
        return ("input", len(dtypes) + len(powers) - 1)

    return apart(tree), powers


def computed(power: ex.Expression, dtype: str, inputs: Sequence[tirx.Expr], dtypes: Sequence[str]
             ) -> tuple[tirx.Expr, tirx.Stmt]:  # fmt: skip
    """A power's value, and the statements that make it. It wraps. With an exponent below 0 it is cut towards
    zero: of 1 and -1 the inverse, which is itself; else 0."""
    base, exponent = (value_of(part, inputs, dtypes, dtype) for part in power[1:])
    arrays, made = zip(*(held(1, kind_of(e), name) for e, name in (
        (base, "power"), (base, "square"), (exponent, "left"))), strict=True)  # fmt: skip
    result, square, left = arrays
    bits = int("".join(filter(str.isdigit, left.dtype)))

    def step(_: object) -> tirx.Stmt:
        now, rest = result.at(0), left.at(0)
        odd = tirx.NE(tirx.bitwise_and(rest, number(1, rest)), number(0, rest))
        return sequence([
            result.put(0, tirx.Select(odd, mul(now, square.at(0)), now)),
            square.put(0, mul(square.at(0), square.at(0))),
            left.put(0, tirx.shift_right(rest, number(1, rest))),
        ])  # fmt: skip

    start = [result.put(0, number(1, base)), square.put(0, base), left.put(0, exponent)]
    if not kind_of(exponent).startswith("u"):
        now, rest = square.at(0), left.at(0)
        below = rest < number(0, rest)
        unit = tirx.EQ(now, number(1, now))
        if not kind_of(base).startswith("u"):
            unit = tirx.Or(unit, tirx.EQ(now, number(-1, now)))
        start += [square.put(0, tirx.Select(tirx.And(below, tirx.Not(unit)), number(0, now), now)),
                  left.put(0, tirx.Select(below, neg(rest), rest))]  # fmt: skip
    return result.at(0), sequence([*made, *start, loop(bits, step)])
