"""The activations, on one element of a sum that is about to be stored. Definitions as in ONNX."""

from __future__ import annotations

from tvm import tirx

from tvmconv.spec import parse_activation


def activate(value: tirx.Expr, activation: str | None) -> tirx.Expr:
    """``activation`` (a spec's canonical text, not "prelu") applied to a scalar expression."""
    if activation is None:
        return value
    name, params = parse_activation(activation)
    return _ACTIVATIONS[name](value, *params)


def prelu(value: tirx.Expr, slope: tirx.Expr) -> tirx.Expr:
    """``value`` where it is not negative, else ``slope * value``; NaN stays NaN."""
    return tirx.Select(tirx.LT(value, _const(0.0, value)), value * slope, value)


def _const(value: float, like: tirx.Expr) -> tirx.Expr:
    return tirx.const(value, like.ty.dtype)


def _clip(v: tirx.Expr, lo: float, hi: float) -> tirx.Expr:
    # max first, then min: a NaN in v would otherwise be turned into a bound by some targets' max.
    v = _keep_nan(v, lo, tirx.LT)
    return _keep_nan(v, hi, tirx.GT)


def _keep_nan(v: tirx.Expr, bound: float, beyond: type) -> tirx.Expr:
    """``bound`` where v lies beyond it, else v; a comparison with NaN is false, so NaN stays NaN."""
    if bound in (float("inf"), float("-inf")):
        return v
    return tirx.Select(beyond(v, _const(bound, v)), _const(bound, v), v)


def _hard_sigmoid(v: tirx.Expr, alpha: float, beta: float) -> tirx.Expr:
    return _clip(v * _const(alpha, v) + _const(beta, v), 0.0, 1.0)


def _sigmoid(v: tirx.Expr) -> tirx.Expr:
    one = _const(1.0, v)
    return one / (one + tirx.exp(-v))


def _gelu_tanh(v: tirx.Expr) -> tirx.Expr:
    inner = _const(0.7978845608028654, v) * (v + _const(0.044715, v) * v * v * v)
    # tanh written with exp: exact to rounding everywhere, where a target's own tanh may be approximate.
    return v * _sigmoid(inner * _const(2.0, v))


def _tanh(v: tirx.Expr) -> tirx.Expr:
    return tirx.tanh(v)


_ACTIVATIONS = {
    "relu": lambda v: _keep_nan(v, 0.0, tirx.LT),
    "relu6": lambda v: _clip(v, 0.0, 6.0),
    "clip": _clip,
    "leaky_relu": lambda v, alpha: prelu(v, _const(alpha, v)),
    "sigmoid": _sigmoid,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": lambda v: v * _hard_sigmoid(v, 1 / 6, 0.5),
    "silu": lambda v: v * _sigmoid(v),
    "tanh": _tanh,
    "gelu": lambda v: _const(0.5, v) * v * (_const(1.0, v) + tirx.erf(v * _const(0.7071067811865476, v))),
    "gelu_tanh": _gelu_tanh,
}
