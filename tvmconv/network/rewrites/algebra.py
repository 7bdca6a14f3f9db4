"""Expressions made simpler: what exporters write out has one name again."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.specs.activations import ACTIVATIONS, canonical_activation, clamp_of
from tvmconv.specs.operators import expression as ex

Expression = ex.Expression
Array = np.ndarray[Any, Any]


def simplified(e: Expression) -> Expression:
    """The same function of its inputs, by fewer and larger parts, for floats."""
    head, *arguments = e
    if head in ("input", "number"):
        return e
    e = (head, *map(simplified, arguments))
    for rule in (_neutral, _clamp, _gate):
        found = rule(e)
        if found is not None:
            return found
    return e


def _number(e: Expression) -> float | None:
    return e[1] if e[0] == "number" else None


def _split(e: Expression) -> tuple[Expression, float] | None:
    """(expression, number) of a function of both, in either order."""
    if len(e) != 3:
        return None
    left, right = _number(e[1]), _number(e[2])
    if right is not None and left is None:
        return e[1], right
    return (e[2], left) if left is not None and right is None else None


def _neutral(e: Expression) -> Expression | None:
    """Operations that change nothing; sums and products of numbers."""
    head = e[0]
    pair = _split(e) if head in ("add", "mul", "sub", "div", "pow") else None
    if pair is None:
        return None
    inner, number = pair
    first = e[1] is inner
    if (head in ("mul",) and number == 1) or (head == "add" and number == 0):
        return inner
    if first and ((head in ("div", "pow") and number == 1) or (head == "sub" and number == 0)):
        return inner
    if head == "pow" and first and number == 2:
        return ("mul", inner, inner)
    if head == "pow" and first and number == 0.5:
        return ("sqrt", inner)
    if head in ("add", "mul") and inner[0] == head and (below := _split(inner)):
        total = number + below[1] if head == "add" else number * below[1]
        return simplified((head, below[0], ("number", total)))
    return None


def _clamp(e: Expression) -> Expression | None:
    """max(x, 0), min(max(x, lo), hi), clip(x, 0, inf) and clips of clips."""
    head = e[0]
    if head == "max" and (pair := _split(e)):
        return ("relu", pair[0]) if pair[1] == 0 else None
    if head == "min" and (pair := _split(e)):
        inner, hi = pair
        if inner[0] == "relu" and hi >= 0:
            return ("clip", inner[1], ("number", 0.0), ("number", hi))
        if inner[0] == "max" and (below := _split(inner)) and below[1] <= hi:
            return ("clip", below[0], ("number", below[1]), ("number", hi))
    if head == "clip" and (_number(e[2]), _number(e[3])) == (0.0, math.inf):
        return ("relu", e[1])
    if head == "div" and e[1][0] == "clip" and (six := _number(e[2])) and (line := _line(e[1][1])):
        inner, a, b = line
        bounds = (_number(e[1][2]), _number(e[1][3]))
        if bounds[0] == 0 and bounds[1] is not None and _near(bounds[1], six) and six > 0:
            return ("hard_sigmoid", inner, ("number", a / six), ("number", b / six))
    return None


def _line(e: Expression) -> tuple[Expression, float, float] | None:
    """(inner, a, b) of a * inner + b with numbers a and b."""
    if e[0] == "add" and (pair := _split(e)):
        return pair[0], 1.0, pair[1]
    return None


def _gate(e: Expression) -> Expression | None:
    """x * sigmoid(x), x * hard_sigmoid(x), x * clip(x + 3, 0, 6) / 6, and GELU with its erf."""
    head = e[0]
    if head == "div" and _number(e[2]) == 6 and e[1][0] == "mul":
        for x, gate in (e[1][1:], e[1][:0:-1]):
            line = _line(gate[1]) if gate[0] == "clip" else None
            bounds = tuple(map(_number, gate[2:])) if line else ()
            if line and line[0] == x and line[1:] == (1.0, 3.0) and bounds == (0.0, 6.0):
                return ("hard_swish", x)
    if head != "mul":
        return None
    for x, gate in (e[1:], e[:0:-1]):
        if gate == ("sigmoid", x):
            return ("silu", x)
        if gate[0] == "hard_sigmoid" and gate[1] == x:
            a, b = _number(gate[2]), _number(gate[3])
            if a is not None and b is not None and _near(a, 1 / 6) and b == 0.5:
                return ("hard_swish", x)
    return _gelu(e)


def _gelu(e: Expression) -> Expression | None:
    """A product of 0.5, x and 1 + erf(x / sqrt(2)), in any order."""
    numbers, others = 1.0, []
    todo = [e]
    while todo:
        one = todo.pop()
        if one[0] == "mul":
            todo += one[1:]
        elif (number := _number(one)) is not None:
            numbers *= number
        else:
            others.append(one)
    if len(others) != 2 or not _near(numbers, 0.5):
        return None
    for x, gate in (others, others[::-1]):
        pair = _split(gate) if gate[0] == "add" else None
        if not pair or pair[1] != 1 or pair[0][0] != "erf":
            continue
        inner = pair[0][1]
        scaled = _split(inner) if inner[0] in ("div", "mul") else None
        if scaled and scaled[0] == x:
            factor = 1 / scaled[1] if inner[0] == "div" else scaled[1]
            if _near(factor, math.sqrt(0.5)):
                return ("gelu", x)
    return None


def _near(a: float, b: float) -> bool:
    """Equal but for float32's rounding of the model's constants."""
    return math.isclose(a, b, rel_tol=1e-6)


def affine(e: Expression, number: int, constants: Sequence[Array | None]) -> tuple[Array, Array] | None:
    """(scale, shift) of an expression that is scale * input ``number`` + shift, all other inputs being
    constants; None for any other."""
    head, *arguments = e
    zero, one = np.zeros(()), np.ones(())
    if head == "number":
        return zero, np.array(arguments[0], np.float64)
    if head == "input":
        if arguments[0] == number:
            return one, zero
        array = constants[arguments[0]]
        return None if array is None else (zero, array.astype(np.float64))
    parts = [affine(argument, number, constants) for argument in arguments]
    if any(part is None for part in parts):
        return None
    if head == "neg":
        return -parts[0][0], -parts[0][1]
    if head not in ("add", "sub", "mul", "div"):
        return None
    (a, b), (c, d) = parts
    if head in ("add", "sub"):
        sign = 1 if head == "add" else -1
        return a + sign * c, b + sign * d
    if head == "mul" and not np.any(c):
        return a * d, b * d
    if head == "mul" and not np.any(a):
        return b * c, b * d
    if head == "div" and not np.any(c):
        with np.errstate(divide="ignore"):
            found = a / d, b / d
        return found if all(np.isfinite(part).all() for part in found) else None
    return None


def innermost(
    e: Expression, constants: Sequence[Array | None]
) -> tuple[Expression, tuple[Array, Array] | None]:
    """(inner, (scale, shift)) of an expression that is scale * inner + shift, inner as small as can be; None
    for scale and shift where it is all of it."""
    inner, path = e, []
    while inner[0] in ("add", "sub", "mul", "div", "neg"):
        free = [at for at, part in enumerate(inner) if at and not _is_constant(part, constants)]
        if len(free) != 1:
            break
        path.append((inner, free[0]))
        inner = inner[free[0]]
    if not path:
        return e, None
    outer: Expression = ("input", len(constants))
    for part, at in reversed(path):
        outer = (*part[:at], outer, *part[at + 1 :])
    return inner, affine(outer, len(constants), constants)


def _is_constant(e: Expression, constants: Sequence[Array | None]) -> bool:
    return all(constants[number] is not None for number in ex.inputs_of(e))


def activation_of(e: Expression, number: int = 0) -> str | None:
    """The text that specs have for an activation of one input; None for other expressions."""
    for name, form in _written_out(number):
        if _is_form(form, e):
            return name
    head, *arguments = e
    row = ACTIVATIONS.get(head)
    if row is None or row.slopes or arguments[0] != ("input", number):
        return None
    numbers = [_number(argument) for argument in arguments[1:]]
    if None in numbers:
        return None
    short = [float(str(np.float32(value))) for value in numbers]
    try:
        found = canonical_activation((head, *short))
    except SpecError:
        return None  # bounds that make no clamp, and the like
    bounds = clamp_of(found)
    named = (name for name, row in ACTIVATIONS.items() if row.bounds and not row.defaults)
    return next((name for name in named if bounds == clamp_of(name)), found)


@cache
def _written_out(number: int) -> tuple[tuple[str, Expression], ...]:
    """(activation, what exporters write that have no operator for it) of the input ``number``."""
    found = []
    for name, row in ACTIVATIONS.items():
        made: list[Expression] = []
        for kind, *operands in row.spelled:
            values = {"x": ("input", number), **dict(enumerate(made))}
            given = (("number", o) if isinstance(o, float) else values[o] for o in operands)
            made.append((kind.lower(), *given))
        found += [(name, made[-1])] if made else []
    return tuple(found)


def _is_form(form: Any, e: Any) -> bool:
    """Whether an expression is another, its numbers but for float32's rounding; factors in either order."""
    if isinstance(form, float):
        return isinstance(e, float) and _near(form, e)
    if not isinstance(form, tuple):
        return form == e
    if not isinstance(e, tuple) or (form[0], len(form)) != (e[0], len(e)):
        return False
    orders = (e[1:], e[:0:-1]) if form[0] in ("mul", "add") else (e[1:],)
    return any(all(map(_is_form, form[1:], parts)) for parts in orders)
