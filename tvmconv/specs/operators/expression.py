"""Element-wise expressions: ``mul(a,sigmoid(b))``. A small grammar, its types, and its values in NumPy.

An expression is a tuple: ("input", k) for the k-th input (a, b, ..., z, a1, ...), ("number", value), or
(function, argument, ...). ``cast_T(e)`` converts to the type T. Floats are float64 inside; only a cast to a
narrower type rounds. Integers wrap, as their type does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from tvmconv.base.dtypes import FLOATS, rounded, widened
from tvmconv.base.errors import SpecError
from tvmconv.specs.activations import ACTIVATIONS
from tvmconv.specs.operators.base import DTYPES, Array, number_text

Expression = tuple[Any, ...]

MOST_PARTS = 512
_MOST_DEPTH = 100
_TOKEN = re.compile(r"[a-z_]+\d*|-?(?:inf|nan)\b|[-+]?\d+\.?\d*(?:e[-+]?\d+)?|[(),]")

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _divided(a: Array, b: Array) -> Array:
    """The quotient; that of integers is rounded towards zero."""
    if np.result_type(a, b).kind == "f":
        return a / b
    safe = np.where(b == 0, np.ones_like(b), b)
    whole = np.where(b == 0, np.zeros_like(b), np.abs(a) // np.abs(safe))
    return (whole * np.sign(a) * np.sign(safe)).astype(a.dtype)


def _power(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return np.power(a, b)
    if np.asarray(b).dtype.kind == "f":
        return cast(np.power(a.astype(np.float64), b), a.dtype.name)
    # Below 0 the inverse of 1 or -1, which is itself; else 0.
    inverse = np.where((a == 1) | (a == -1), a, np.zeros_like(a))
    return np.where(b < 0, np.power(inverse, 2 - (b & 1)), np.power(a, np.maximum(b, 0)))


class Function(NamedTuple):
    """arity: of its arguments. types: "same": all of one type, which is the result's; "float": so, and a
    float; "first": the first's; "compare": of one type, gives bool; "logic": bool; "where": bool, then two of
    one type."""

    arity: int
    types: str
    apply: Callable[..., Array]


def _activation(name: str) -> Function:
    """A float's function as the table of activations has it."""
    row = ACTIVATIONS[name]
    if row.forward is None:
        raise KeyError(name)
    return Function(1 + len(row.defaults), "float", row.forward)


FUNCTIONS: dict[str, Function] = {
    "add": Function(2, "same", np.add), "sub": Function(2, "same", np.subtract),
    "mul": Function(2, "same", np.multiply), "div": Function(2, "same", _divided),
    "min": Function(2, "same", np.minimum), "max": Function(2, "same", np.maximum),
    "pow": Function(2, "first", _power), "fmod": Function(2, "same", np.fmod),
    "mod": Function(2, "same", np.mod),
    "neg": Function(1, "same", np.negative), "abs": Function(1, "same", np.abs),
    "sign": Function(1, "same", np.sign),
    "sqrt": Function(1, "float", np.sqrt), "exp": Function(1, "float", np.exp),
    "log": Function(1, "float", np.log), "reciprocal": Function(1, "float", lambda v: 1 / v),
    "floor": Function(1, "float", np.floor), "ceil": Function(1, "float", np.ceil),
    "round": Function(1, "float", np.rint), "erf": Function(1, "float", _erf),
    "sin": Function(1, "float", np.sin), "cos": Function(1, "float", np.cos),
    "relu": Function(1, "same", lambda v: np.maximum(v, np.zeros((), v.dtype))),
    "clip": Function(3, "same", lambda v, lo, hi: np.minimum(np.maximum(v, lo), hi)),
    "sigmoid": _activation("sigmoid"), "tanh": _activation("tanh"), "silu": _activation("silu"),
    "hard_sigmoid": _activation("hard_sigmoid"), "hard_swish": _activation("hard_swish"),
    "gelu": _activation("gelu"), "gelu_tanh": _activation("gelu_tanh"),
    "leaky_relu": Function(2, "same", lambda v, a: np.where(v < 0, a * v, v)),
    "elu": Function(2, "float", lambda v, a: np.where(v < 0, a * np.expm1(np.minimum(v, 0)), v)),
    "softplus": Function(1, "float", lambda v: np.logaddexp(v, 0)),
    "softsign": Function(1, "float", lambda v: v / (1 + np.abs(v))),
    "thresholded_relu": Function(2, "float", lambda v, a: np.where(v > a, v, 0.0)),
    "is_nan": Function(1, "compare", np.isnan),
    "equal": Function(2, "compare", np.equal), "less": Function(2, "compare", np.less),
    "less_equal": Function(2, "compare", np.less_equal), "greater": Function(2, "compare", np.greater),
    "greater_equal": Function(2, "compare", np.greater_equal),
    "and": Function(2, "logic", np.logical_and), "or": Function(2, "logic", np.logical_or),
    "xor": Function(2, "logic", np.logical_xor), "not": Function(1, "logic", np.logical_not),
    "where": Function(3, "where", np.where),
    **{f"cast_{dtype}": Function(1, "cast", lambda v: v) for dtype in DTYPES},
}  # fmt: skip


def name_of_input(number: int) -> str:
    """a, b, ..., z, a1, b1, ..."""
    round_, letter = divmod(number, 26)
    return chr(ord("a") + letter) + (str(round_) if round_ else "")


def text_of(expression: Expression) -> str:
    """The text of an expression, without spaces."""
    head, *arguments = expression
    if head == "input":
        return name_of_input(arguments[0])
    if head == "number":
        return number_text(arguments[0])
    return f"{head}({','.join(map(text_of, arguments))})"


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The expression of a text. Raises SpecError."""
    tokens, at = [], 0
    for match in _TOKEN.finditer(text):
        if match.start() != at:
            break
        tokens.append(match[0])
        at = match.end()
    if at != len(text) or not tokens:
        raise SpecError(f"expression: {text!r}, expected one such as mul(a,sigmoid(b)); {text[at:at + 12]!r}")
    expression, end = _parse(tokens, 0, text, 0)
    if end != len(tokens):
        raise SpecError(f"expression: {text!r}, expected nothing after {''.join(tokens[:end])!r}")
    return expression


def _parse(tokens: list[str], at: int, text: str, depth: int) -> tuple[Expression, int]:
    token = tokens[at] if at < len(tokens) else ""
    if depth > _MOST_DEPTH:
        raise SpecError(f"expression: functions {depth} deep, expected at most {_MOST_DEPTH}")
    if token in FUNCTIONS and tokens[at + 1 : at + 2] == ["("]:
        arguments, at = [], at + 1
        while not arguments or tokens[at : at + 1] == [","]:
            argument, at = _parse(tokens, at + 1, text, depth + 1)
            arguments.append(argument)
        if tokens[at : at + 1] != [")"]:
            raise SpecError(f"expression: {text!r}, expected ')' after the arguments of {token}")
        if len(arguments) != FUNCTIONS[token].arity:
            wanted = FUNCTIONS[token].arity
            raise SpecError(f"expression: {token} with {len(arguments)} arguments, expected {wanted}")
        return (token, *arguments), at + 1
    name = re.fullmatch(r"([a-z])([1-9]\d{0,2})?", token)
    if name:
        return ("input", ord(name[1]) - ord("a") + 26 * int(name[2] or 0)), at + 1
    try:
        return ("number", float(token)), at + 1
    except ValueError:
        what = f"expected an input (a, b, ...), a number, or one of {', '.join(FUNCTIONS)}"
        raise SpecError(f"expression: {token!r} in {text!r}, {what}") from None


def inputs_of(expression: Expression) -> set[int]:
    """The numbers of the inputs that an expression reads."""
    head, *arguments = expression
    if head in ("input", "number"):
        return {arguments[0]} if head == "input" else set()
    return set().union(*map(inputs_of, arguments))


def substituted(expression: Expression, inputs: Sequence[Expression]) -> Expression:
    """An expression with others in the place of its inputs."""
    head, *arguments = expression
    if head == "input":
        return inputs[arguments[0]]
    if head == "number":
        return expression
    return (head, *(substituted(argument, inputs) for argument in arguments))


def parts(expression: Expression) -> int:
    """How many functions, inputs and numbers an expression has."""
    head, *arguments = expression
    return 1 if head in ("input", "number") else 1 + sum(map(parts, arguments))


def dtype_of(expression: Expression, dtypes: Sequence[str]) -> str | None:
    """The type of an expression's value; None for one of numbers alone, which take the type of what is
    beside them. Raises SpecError for types that do not go together."""
    head, *arguments = expression
    if head == "input":
        if arguments[0] >= len(dtypes):
            raise SpecError(f"expression: input {name_of_input(arguments[0])}, and there are {len(dtypes)}")
        return dtypes[arguments[0]]
    if head == "number":
        return None
    types, found = FUNCTIONS[head].types, [dtype_of(argument, dtypes) for argument in arguments]
    if types == "cast":
        return head.removeprefix("cast_")
    if types == "first":
        return found[0]
    if types == "where":
        _agree(head, found[:1], ("bool",))
        return _agree(head, found[1:], DTYPES)
    if types == "logic":
        return _agree(head, found, ("bool",)) or "bool"
    if types == "compare":
        _agree(head, found, DTYPES)
        return "bool"
    return _agree(head, found, FLOATS if types == "float" else DTYPES[:-1])


def _agree(head: str, found: Sequence[str | None], allowed: Sequence[str]) -> str | None:
    known = {dtype for dtype in found if dtype}
    if len(known) > 1 or not known <= set(allowed):
        wanted = "bool" if tuple(allowed) == ("bool",) else f"one of {', '.join(allowed)}"
        raise SpecError(f"expression: {head} of {', '.join(sorted(known))}, expected one type, {wanted}")
    return known.pop() if known else None


def evaluate(expression: Expression, arrays: Sequence[Array], dtypes: Sequence[str]) -> Array:
    """An expression's value on arrays: floats float64, integers of the types that ``dtypes`` states."""
    return _evaluate(expression, arrays, dtypes, None)


def _evaluate(e: Expression, arrays: Sequence[Array], dtypes: Sequence[str], wanted: str | None) -> Array:
    head, *arguments = e
    if head == "input":
        return arrays[arguments[0]]
    if head == "number":
        kind = np.float64 if wanted is None or wanted in FLOATS else np.dtype(wanted)
        return integral(arguments[0], kind) if kind != np.float64 else np.array(arguments[0], np.float64)
    function = FUNCTIONS[head]
    types = [dtype_of(argument, dtypes) for argument in arguments]
    known = types[1:] if function.types == "where" else types
    own = next((dtype for dtype in known if dtype), wanted)
    values = [
        _evaluate(argument, arrays, dtypes, None if function.types == "cast" else own)
        for argument in arguments
    ]
    if function.types == "cast":
        return cast(values[0], head.removeprefix("cast_"))
    return function.apply(*values)


def integral(value: float, dtype: Any) -> Array:
    """A number in an integer type, the nearest one that it has."""
    if dtype == np.bool_:
        return np.array(value, np.bool_)
    limits = np.iinfo(dtype)
    return np.array(min(max(int(max(min(value, 1e19), -1e19)), limits.min), limits.max), dtype)


def cast(value: Array, dtype: str) -> Array:
    """A value converted: to floats rounded to ``dtype`` and held in float64, to integers cut towards zero."""
    value = np.asarray(value)
    if dtype in FLOATS:
        return widened(rounded(value.astype(np.float64), dtype)).astype(np.float64)
    if dtype == "bool":
        return value != 0
    if value.dtype.kind == "f":  # by way of the widest integers: what NumPy leaves open wraps
        limit = float(1 << 63)
        inside = np.clip(np.nan_to_num(np.trunc(value), nan=0.0), -limit, np.nextafter(limit, 0))
        return inside.astype(np.int64).astype(dtype)
    return value.astype(dtype)
