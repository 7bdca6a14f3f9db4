"""Element-wise expressions of operators as TIR: each function of `tvmconv.specs.operators.expression`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tvm import tirx

from tvmconv.base.dtypes import FLOATS
from tvmconv.compiler.codegen.nest import computed
from tvmconv.compiler.operators import values as v_
from tvmconv.compiler.operators.values import is_float, kind_of, libm, number, once
from tvmconv.compiler.ops import epilogue, vector_math
from tvmconv.specs.operators import expression as ex

Expr = tirx.Expr
_SHORT = ("int8", "uint8", "int16", "uint16")


def value_of(tree: ex.Expression, inputs: Sequence[Expr], dtypes: Sequence[str],
             wanted: str | None = None) -> Expr:  # fmt: skip
    """The value of an expression; ``inputs``: those of its inputs, of the types that are computed with.
    ``wanted``: the type of what is left open, a number beside numbers."""
    head, *arguments = tree
    if head == "input":
        return inputs[arguments[0]]
    if head == "number":
        return _constant(arguments[0], wanted or "float32")
    function = ex.FUNCTIONS[head]
    types = [ex.dtype_of(argument, dtypes) for argument in arguments]
    known = types[1:] if function.types == "where" else types
    own = next((dtype for dtype in known if dtype), wanted)
    asked = None if function.types == "cast" else own
    if function.types == "cast":
        dtype = head.removeprefix("cast_")
        of, bounds = _bounded(arguments[0], dtype) if types[0] in FLOATS else (arguments[0], None)
        return v_.cast(value_of(of, inputs, dtypes, asked), dtype, bounds)
    values = [value_of(argument, inputs, dtypes, asked) for argument in arguments]
    return _FUNCTIONS[head](*values)


def _bounded(tree: ex.Expression, dtype: str) -> tuple[ex.Expression, tuple[float, float] | None]:
    """What a clip between numbers that an integer ``dtype`` holds is of, and these; or it, and None."""
    head, *arguments = tree
    if head != "clip" or dtype not in _SHORT or any(bound[0] != "number" for bound in arguments[1:]):
        return tree, None
    lo, hi = (float(bound[1]) for bound in arguments[1:])
    held = np.iinfo(dtype).min <= lo <= hi <= np.iinfo(dtype).max
    return (arguments[0], (lo, hi)) if held else (tree, None)


def function(name: str) -> Callable[..., Expr]:
    """One of ``FUNCTIONS`` by its name."""
    return _FUNCTIONS[name]


def _constant(value: float, dtype: str) -> Expr:
    if dtype in FLOATS:
        return tirx.const(value, computed(dtype))
    return tirx.const(ex.integral(value, np.dtype(dtype)).item(), dtype)


def activation(name: str) -> Callable[[Expr], Expr]:
    """A function of one float, as convolutions have it behind them."""
    return lambda v: epilogue.activate(v, name)


def _by_float32(in_vectors: Callable[[Expr], Expr], name: str) -> Callable[[Expr], Expr]:
    """Vector arithmetic for float32, and for float64 a function of the C library, lane by lane."""
    return lambda v: in_vectors(v) if kind_of(v) == "float32" else libm(name, v)


def _flags(both: Callable[[Expr, Expr], Expr], flags: Callable[[Expr, Expr], Expr]) -> Callable:
    return lambda a, b: flags(a, b) if kind_of(a) == "bool" else both(a, b)


def _clip(v: Expr, lo: Expr, hi: Expr) -> Expr:
    return v_.least(v_.largest(v, lo), hi)


def _where(condition: Expr, a: Expr, b: Expr) -> Expr:
    if kind_of(a) != "bool":
        return tirx.Select(condition, a, b)
    return tirx.Or(tirx.And(condition, a), tirx.And(tirx.Not(condition), b))


def _sqrt(v: Expr) -> Expr:
    return tirx.sqrt(v)


def _leaky_relu(v: Expr, a: Expr) -> Expr:
    if kind_of(v).startswith("u"):  # none is below 0
        return v
    return once(v, lambda v: tirx.Select(v < number(0, v), v_.mul(a, v), v))


def _elu(v: Expr, a: Expr) -> Expr:
    def of(v: Expr) -> Expr:
        below = v_.least(v, number(0, v))
        return tirx.Select(v < number(0, v), a * _expm1(below), v)

    return once(v, of)


exp = _by_float32(vector_math.exp, "exp")
log = _by_float32(vector_math.log, "log")
_expm1 = _by_float32(vector_math.expm1_of_negative, "expm1")


def _softplus64(v: Expr) -> Expr:
    return once(v, lambda v: v_.largest(v, number(0, v)) + libm("log1p", tirx.exp(-tirx.abs(v))))


def _softplus(v: Expr) -> Expr:
    return vector_math.softplus(v) if kind_of(v) == "float32" else _softplus64(v)


def _hard_sigmoid(v: Expr, a: Expr, b: Expr) -> Expr:
    return _clip(a * v + b, number(0, v), number(1, v))


def _relu(v: Expr) -> Expr:
    zero = number(0, v)
    return tirx.max(v, zero) if not is_float(v) else once(v, lambda v: tirx.Select(v < zero, zero, v))


_FUNCTIONS: dict[str, Callable[..., Expr]] = {
    "add": v_.add, "sub": v_.sub, "mul": v_.mul, "div": v_.div, "min": v_.least, "max": v_.largest,
    "pow": v_.power, "fmod": v_.fmod, "mod": v_.mod, "neg": v_.neg, "abs": v_.absolute, "sign": v_.sign,
    "sqrt": _sqrt, "exp": exp, "log": log,
    "reciprocal": lambda v: number(1, v) / v,
    "floor": tirx.floor, "ceil": lambda v: -tirx.floor(-v), "round": tirx.nearbyint,
    "erf": _by_float32(vector_math.erf, "erf"),
    "sin": lambda v: libm("sin", v), "cos": lambda v: libm("cos", v),
    "relu": _relu, "clip": _clip,
    "sigmoid": activation("sigmoid"), "tanh": _by_float32(vector_math.tanh, "tanh"),
    "silu": activation("silu"), "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda v: once(v, lambda v: v * _clip(v + number(3, v), number(0, v), number(6, v))
                                 * number(1 / 6, v)),
    "gelu": activation("gelu"), "gelu_tanh": activation("gelu_tanh"),
    "leaky_relu": _leaky_relu,
    "elu": _elu, "softplus": _softplus,
    "softsign": lambda v: once(v, lambda v: v / (number(1, v) + tirx.abs(v))),
    "thresholded_relu": lambda v, a: once(v, lambda v: tirx.Select(v > a, v, number(0, v))),
    "is_nan": lambda v: tirx.isnan(v) if is_float(v) else tirx.NE(v, v),
    "equal": _flags(tirx.EQ, lambda a, b: tirx.Not(v_.differ(a, b))), "less": tirx.LT,
    "less_equal": tirx.LE, "greater": tirx.GT, "greater_equal": tirx.GE,
    "and": tirx.And, "or": tirx.Or, "xor": v_.differ, "not": tirx.Not,
    "where": _where,
}  # fmt: skip


# Functions that take about as long as so many multiply-adds.
_LONG = {"exp", "log", "erf", "sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "elu", "softplus", "pow", "sin",
         "cos", "fmod", "mod"}  # fmt: skip


def cost_of(tree: ex.Expression) -> int:
    """About how many multiply-adds an element takes."""
    head, *arguments = tree
    if head in ("input", "number"):
        return 1
    return (20 if head in _LONG else 1) + sum(map(cost_of, arguments))
