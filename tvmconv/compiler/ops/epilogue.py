"""The activations, on one element about to be stored. Definitions as in ONNX."""

from __future__ import annotations

from tvm import tirx

from tvmconv.compiler.ops import vector_math
from tvmconv.specs.activations import ACTIVATIONS, parse_activation


def finished(
    value: tirx.Expr,
    *,
    bias: tirx.Expr | None = None,
    residual: tirx.Expr | None = None,
    slope: tirx.Expr | None = None,
    activation: str | None = None,
) -> tirx.Expr:
    """The result from the sum ``value``: bias and residual added, then the activation, PReLU with its
    slope."""
    for term in (bias, residual):
        if term is not None:
            value = value + term
    return activate(value, activation) if slope is None else prelu(value, slope)


def activate(value: tirx.Expr, activation: str | None) -> tirx.Expr:
    """``activation`` (a spec's canonical text, not "prelu") applied to a scalar expression."""
    if activation is None:
        return value
    name, params = parse_activation(activation)
    return vector_math.let(value, lambda v: _FORMS[name](v, *params))


def prelu(value: tirx.Expr, slope: tirx.Expr) -> tirx.Expr:
    """``value`` if it is not negative, else ``slope * value``; NaN stays NaN."""
    return tirx.Select(tirx.LT(value, _const(0.0, value)), value * slope, value)


def _const(value: float, like: tirx.Expr) -> tirx.Expr:
    return tirx.const(value, like.ty.dtype)


def _clip(v: tirx.Expr, lo: float, hi: float) -> tirx.Expr:
    # max first, then min: a NaN in v would otherwise be turned into a bound by some targets' max.
    v = _keep_nan(v, lo, tirx.LT)
    return _keep_nan(v, hi, tirx.GT)


def _keep_nan(v: tirx.Expr, bound: float, beyond: type) -> tirx.Expr:
    """``bound`` if v lies beyond it, else v; a comparison with NaN is false, so NaN stays NaN."""
    if bound in (float("inf"), float("-inf")):
        return v
    return tirx.Select(beyond(v, _const(bound, v)), _const(bound, v), v)


def _relu(v: tirx.Expr) -> tirx.Expr:
    return _keep_nan(v, 0.0, tirx.LT)


def _relu6(v: tirx.Expr) -> tirx.Expr:
    return _clip(v, 0.0, 6.0)


def _leaky_relu(v: tirx.Expr, alpha: float) -> tirx.Expr:
    return prelu(v, _const(alpha, v))


def _hard_sigmoid(v: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    if (alpha, beta) == ACTIVATIONS["hard_sigmoid"].defaults:
        return _clip(v + _const(3.0, v), 0.0, 6.0) * _const(1 / 6, v)  # exact near -3, where it is near 0
    return _clip(v * _const(alpha, v) + _const(beta, v), 0.0, 1.0)


def _hard_swish(v: tirx.Expr) -> tirx.Expr:
    own = [value for value in ACTIVATIONS["hard_sigmoid"].defaults if value is not None]
    return v * _hard_sigmoid(v, *own)


# float64 has the mathematical library's functions, one lane at a time.


def _sigmoid(v: tirx.Expr) -> tirx.Expr:
    if v.ty.dtype == "float32":
        return vector_math.sigmoid(v)
    one = _const(1.0, v)
    return one / (one + tirx.exp(-v))


def _silu(v: tirx.Expr) -> tirx.Expr:
    return v * _sigmoid(v)


def _tanh(v: tirx.Expr) -> tirx.Expr:
    return vector_math.tanh(v) if v.ty.dtype == "float32" else tirx.tanh(v)


def _gelu(v: tirx.Expr) -> tirx.Expr:
    if v.ty.dtype == "float32":
        return v * vector_math.normal_cdf(v)
    return _const(0.5, v) * v * (_const(1.0, v) + tirx.erf(v * _const(0.7071067811865476, v)))


def _gelu_tanh(v: tirx.Expr) -> tirx.Expr:
    # (1 + tanh(u)) / 2 = sigmoid(2 * u)
    twice = v * (_const(1.5957691216057308, v) + _const(1.5957691216057308 * 0.044715, v) * v * v)
    return v * _sigmoid(twice)


def _mish(v: tirx.Expr) -> tirx.Expr:
    # tanh(ln(1 + exp(v))) = n / (n + 2) with n = u * u + 2 * u, u = exp(v); and from e = exp(-v), which does
    # not overflow where v is positive, 1 - m / (1 + 2 * e + m) with m = 2 * e * e.
    one, two = _const(1.0, v), _const(2.0, v)
    below = v < _const(0.0, v)

    def of(e: tirx.Expr) -> tirx.Expr:
        part = tirx.Select(below, e * (e + two), two * e * e)
        return vector_math.let(part, lambda p: ratio(p / (p + tirx.Select(below, two, one + two * e))))

    def ratio(r: tirx.Expr) -> tirx.Expr:
        return vector_math.let(r, lambda r: v * tirx.Select(below, r, one - r))

    falling = -tirx.abs(v)
    exp = vector_math.exp_of_negative if v.ty.dtype == "float32" else tirx.exp
    return vector_math.let(exp(falling), of)


# A row without its form here is a KeyError as soon as this is imported.
_FORMS = {name: globals()[f"_{name}"] for name, row in ACTIVATIONS.items() if not row.slopes}
