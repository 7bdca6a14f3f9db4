"""Element-wise functions of one value x, as expressions in a normal form.

An expression is a tuple: ("x",), ("affine", a, b, e) for a*e + b, ("clip", lo, hi, e), ("product", e, e),
("leaky_relu", alpha, e), or (function, e). The algebra is exact in real numbers: products and sums with
scalars are merged and pushed into clamps, so that ``x * clip(x + 3, 0, 6) / 6`` and ``x * HardSigmoid(x)``
come out as one and the same expression.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from tvmconv.specs.activations import ACTIVATIONS

Expression = tuple[Any, ...]
Operand = Expression | float | None
Operands = list[Expression | float | None]

X: Expression = ("x",)
_INF = math.inf
_FLOAT_MAX = 3.4e38  # "no bound" in models from before Clip's bounds were optional


def read(op_type: str, operands: Operands, attributes: dict[str, Any]) -> Expression | None:
    """The result of an ONNX operator on operands that are expressions, scalars, or None where left out.

    None for an operator, or a use of it, that has no expression here.
    """
    reader = _READERS.get(op_type)
    return reader(operands, attributes) if reader else None


def _affine(a: float, b: float, inner: Expression) -> Expression | None:
    """a*inner + b in normal form; None for what is no function of x any more."""
    if a == 0 or not (math.isfinite(a) and math.isfinite(b)):
        return None
    if inner[0] == "affine":
        return _affine(a * inner[1], a * inner[2] + b, inner[3])
    if a == 1 and b == 0:
        return inner
    if inner[0] == "clip" and a > 0:
        scaled = _affine(a, b, inner[3])
        return None if scaled is None else ("clip", a * inner[1] + b, a * inner[2] + b, scaled)
    if inner[0] == "product" and b == 0:
        return _product(inner[1], inner[2], a)
    return ("affine", a, b, inner)


def _product(left: Expression, right: Expression, factor: float = 1.0) -> Expression | None:
    """factor*left*right; the factor goes into a clamp or a sum, so that x stands alone beside its gate."""
    sides = []
    for side in (left, right):
        if side[0] == "affine" and side[2] == 0:
            factor, side = factor * side[1], side[3]
        sides.append(side)
    sides.sort(key=lambda side: side[0] in ("clip", "affine"))
    gate = _affine(factor, 0.0, sides[1])
    return None if gate is None else ("product", sides[0], gate)


def _clip(inner: Expression, lo: float, hi: float) -> Expression | None:
    lo, hi = (-_INF if lo <= -_FLOAT_MAX else lo), (_INF if hi >= _FLOAT_MAX else hi)
    if math.isnan(lo) or math.isnan(hi) or lo > hi:
        return None
    if inner[0] == "clip":
        return ("clip", min(max(inner[1], lo), hi), min(max(inner[2], lo), hi), inner[3])
    return inner if (lo, hi) == (-_INF, _INF) else ("clip", lo, hi, inner)


def _one(operands: Operands) -> Expression | None:
    return operands[0] if isinstance(operands[0], tuple) else None


def _function(name: str):
    def apply(operands: Operands, found: dict[str, Any]) -> Expression | None:
        inner = _one(operands)
        return None if inner is None else (name, inner)

    return apply


def _split(operands: Operands) -> tuple[Expression, float] | None:
    """(expression, scalar) of two operands of which just one is constant, in either order."""
    if len(operands) != 2:
        return None
    left, right = operands
    if isinstance(left, tuple) and isinstance(right, float):
        return left, right
    return (right, left) if isinstance(right, tuple) and isinstance(left, float) else None


def _add(operands: Operands, found: dict[str, Any]) -> Expression | None:
    pair = _split(operands)
    return _affine(1.0, pair[1], pair[0]) if pair else None


def _sub(operands: Operands, found: dict[str, Any]) -> Expression | None:
    pair = _split(operands)
    if pair is None:
        return None
    return _affine(1.0, -pair[1], pair[0]) if operands[0] is pair[0] else _affine(-1.0, pair[1], pair[0])


def _mul(operands: Operands, found: dict[str, Any]) -> Expression | None:
    if len(operands) == 2:
        left, right = operands
        if isinstance(left, tuple) and isinstance(right, tuple):
            return _product(left, right)
    pair = _split(operands)
    return _affine(pair[1], 0.0, pair[0]) if pair else None


def _div(operands: Operands, found: dict[str, Any]) -> Expression | None:
    pair = _split(operands)
    if pair is None or operands[0] is not pair[0] or pair[1] == 0:
        return None
    return _affine(1 / pair[1], 0.0, pair[0])


def _bounds(operands: Operands, found: dict[str, Any]) -> Expression | None:
    inner = _one(operands)
    lo, hi = [*operands[1:3], None, None][:2]
    if inner is None or isinstance(lo, tuple) or isinstance(hi, tuple):
        return None
    lo = found.get("min", -_INF) if lo is None else lo
    hi = found.get("max", _INF) if hi is None else hi
    return _clip(inner, lo, hi)


def _extremum(upper: bool):
    def apply(operands: Operands, found: dict[str, Any]) -> Expression | None:
        pair = _split(operands)
        if pair is None:
            return None
        return _clip(pair[0], -_INF, pair[1]) if upper else _clip(pair[0], pair[1], _INF)

    return apply


def _leaky(operands: Operands, found: dict[str, Any]) -> Expression | None:
    inner = _one(operands)
    alpha = operands[1] if len(operands) == 2 else found.get("alpha", 0.01)
    return None if inner is None or not isinstance(alpha, float) else ("leaky_relu", alpha, inner)


def _hard_sigmoid(operands: Operands, found: dict[str, Any]) -> Expression | None:
    inner = _one(operands)
    line = _affine(found.get("alpha", 0.2), found.get("beta", 0.5), inner) if inner else None
    return _clip(line, 0.0, 1.0) if line else None


def _gelu(operands: Operands, found: dict[str, Any]) -> Expression | None:
    kinds = {"none": "gelu", "tanh": "gelu_tanh"}
    kind, inner = kinds.get(found.get("approximate", "none")), _one(operands)
    return (kind, inner) if kind and inner else None


def _relu(operands: Operands, found: dict[str, Any]) -> Expression | None:
    inner = _one(operands)
    return _clip(inner, 0.0, _INF) if inner else None


def _swish(operands: Operands, found: dict[str, Any]) -> Expression | None:
    inner = _one(operands)
    return ("silu", inner) if inner and found.get("alpha", 1.0) == 1.0 else None


def spelled(nodes: Sequence[tuple[Any, ...]]) -> Expression | None:
    """The normal form of nodes as a row of the activations' table spells it."""
    made: list[Expression | None] = []
    for op_type, *operands in nodes:
        values = {"x": X, **dict(enumerate(made))}
        made.append(read(op_type, [o if isinstance(o, float) else values[o] for o in operands], {}))
    return made[-1] if made else None


_READERS: dict[str, Callable[[Operands, dict[str, Any]], Expression | None]] = {
    # Operators that are an activation without parameters; others' are below.
    **{row.onnx: _function(row.name) for row in ACTIVATIONS.values() if row.onnx and not row.defaults},
    "Relu": _relu,
    "Clip": _bounds, "Max": _extremum(False), "Min": _extremum(True),
    "LeakyRelu": _leaky, "PRelu": _leaky,
    "Erf": _function("erf"), "Softplus": _function("softplus"),
    "HardSigmoid": _hard_sigmoid, "Gelu": _gelu, "Swish": _swish,
    "Add": _add, "Sub": _sub, "Mul": _mul, "Div": _div,
    "Identity": lambda operands, found: _one(operands),
}  # fmt: skip
