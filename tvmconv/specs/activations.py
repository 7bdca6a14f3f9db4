"""The table of activations: everything about each is in its row.

Its form in kernels, TE code, is the function of the same name in tvmconv.compiler.ops.epilogue.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import shown, unknown

if TYPE_CHECKING:
    pass

Float64 = "NDArray[np.float64]"
Node = tuple[Any, ...]  # ONNX operator, then its operands: "x", the number of an earlier node, a constant


@dataclass(frozen=True, eq=False)
class Activation:
    """Specs call it ``name``, or "name=parameters" if ``defaults`` has some (None: must be given).

    ``forward``: the function of float64 numbers and the parameters, NaN for NaN; None for one with
    ``slopes``, an array of one number per channel. ``bounds``: if it only clamps, its bounds, from the
    parameters. ``exact``: it only compares, and scales by slopes, so it does not round. ``homogeneous``:
    f(c*x) is c*f(x) for c > 0, so that sums of any size test all of it.

    Its names elsewhere, "" if missing. ``onnx``: an operator, whose attributes (named in ``attributes``) or
    else inputs are the parameters. ``spelled``: nodes that compute it where the operator is missing, in
    models and in the benchmark. ``form``: another normal form (tvmconv.onnx.reading.expressions) found in
    models, None for each parameter. ``torch``: a function that works in place, or with ``inplace=True``.
    ``onednn``: what PyTorch's operator fuses. ``tflite``: an operator.
    """

    name: str
    forward: Callable[..., Float64] | None
    defaults: tuple[float | None, ...] = ()
    slopes: bool = False
    bounds: Callable[..., tuple[float, float]] | None = None
    exact: bool = False
    homogeneous: bool = False
    onnx: str = ""
    attributes: tuple[str, ...] = ()
    spelled: tuple[Node, ...] = ()
    form: tuple[Any, ...] = ()
    torch: str = ""
    onednn: str = ""
    tflite: str = ""


def _clip(v: Float64, lo: float, hi: float) -> Float64:
    return np.minimum(np.maximum(v, lo), hi)


def _sigmoid(v: Float64) -> Float64:
    return 1 / (1 + np.exp(-v))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])

_ROWS = (
    Activation("relu", lambda v: np.maximum(v, 0), bounds=lambda: (0.0, math.inf), exact=True,
               homogeneous=True, onnx="Relu", torch="relu_", onednn="relu"),
    Activation("relu6", lambda v: _clip(v, 0, 6), bounds=lambda: (0.0, 6.0), exact=True),
    Activation("clip", _clip, (None, None), bounds=lambda lo, hi: (lo, hi), exact=True, onnx="Clip",
               torch="hardtanh_", onednn="hardtanh"),
    Activation("leaky_relu", lambda v, slope: np.where(v < 0, slope * v, v), (0.01,), homogeneous=True,
               onnx="LeakyRelu", attributes=("alpha",), torch="leaky_relu_", onednn="leaky_relu"),
    Activation("sigmoid", _sigmoid, onnx="Sigmoid", torch="sigmoid_", onednn="sigmoid"),
    Activation("hard_sigmoid", lambda v, alpha, beta: _clip(alpha * v + beta, 0, 1), (1 / 6, 0.5),
               onnx="HardSigmoid", attributes=("alpha", "beta"),
               form=("clip", 0.0, 1.0, ("affine", None, None, ("x",))),
               torch="hardsigmoid", onednn="hardsigmoid"),
    Activation("hard_swish", lambda v: v * _clip(v + 3, 0, 6) / 6, onnx="HardSwish",
               spelled=(("Add", "x", 3.0), ("Clip", 0, 0.0, 6.0), ("Mul", "x", 1), ("Div", 2, 6.0)),
               torch="hardswish", onednn="hardswish", tflite="HARD_SWISH"),
    Activation("silu", lambda v: v * _sigmoid(v), spelled=(("Sigmoid", "x"), ("Mul", "x", 0)),
               torch="silu", onednn="swish"),
    Activation("tanh", np.tanh, onnx="Tanh", torch="tanh_", onednn="tanh"),
    Activation("gelu", lambda v: 0.5 * v * _erfc(-v / math.sqrt(2)),  # 1 + erf(u), without its cancellation
               spelled=(("Div", "x", math.sqrt(2)), ("Erf", 0), ("Add", 1, 1.0), ("Mul", "x", 2),
                        ("Mul", 3, 0.5))),
    Activation("gelu_tanh",  # likewise
               lambda v: v * _sigmoid(math.sqrt(8 / math.pi) * (v + 0.044715 * v**3))),
    Activation("mish", lambda v: v * np.tanh(np.logaddexp(0, v)), onnx="Mish",
               spelled=(("Softplus", "x"), ("Tanh", 0), ("Mul", "x", 1)), torch="mish"),
    Activation("prelu", None, slopes=True, exact=True, homogeneous=True),
)  # fmt: skip

ACTIVATIONS = {row.name: row for row in _ROWS}


def canonical_activation(activation: Any) -> str | None:
    """The canonical text of an activation given as None, "relu", "clip=0,6" or ("clip", 0, 6)."""
    if activation is None:
        return None
    name, params = parse_activation(activation)
    if params == ACTIVATIONS[name].defaults:
        return name
    return f"{name}={','.join(_float_text(value) for value in params)}"


def row_of(activation: str | None) -> Activation | None:
    """The row of an activation's text; None without one."""
    return ACTIVATIONS[activation.partition("=")[0]] if activation else None


def clamp_of(activation: str | None) -> tuple[float, float] | None:
    """(lo, hi) of an activation that only clamps; None for others. Without an activation they are
    infinite."""
    if activation is None:
        return -math.inf, math.inf
    name, params = parse_activation(activation)
    bounds = ACTIVATIONS[name].bounds
    return None if bounds is None else bounds(*params)


def activate(activation: str, v: Float64) -> Float64:
    """Apply an activation by its name in specs ("relu", "clip=0,6", ...; not "prelu", which takes an array)
    to every element; NaN stays NaN."""
    name, params = parse_activation(activation)
    forward = ACTIVATIONS[name].forward
    if forward is None:
        raise SpecError(f"activation: {activation!r}, expected one without slopes")
    with np.errstate(over="ignore", invalid="ignore"):
        return forward(v, *params)


def parse_activation(activation: Any) -> tuple[str, tuple[float, ...]]:
    """``(name, params)`` of an activation's text, defaults filled in: "clip=0,6" -> ("clip", (0.0, 6.0)).

    Raises SpecError for an unknown name, a wrong number of parameters, NaN, or clip with lo > hi.
    """
    if isinstance(activation, str):
        name, equals, text = activation.partition("=")
        given: tuple[Any, ...] = tuple(text.split(",")) if equals else ()
    elif isinstance(activation, (tuple, list)) and activation and isinstance(activation[0], str):
        name, given = activation[0], tuple(activation[1:])
    else:
        raise SpecError(f"activation: {shown(activation)}, expected a name, or a tuple (name, parameters...)")
    if name not in ACTIVATIONS:
        raise unknown("activation", name, ACTIVATIONS)
    defaults = ACTIVATIONS[name].defaults
    if not given and None not in defaults:
        return name, defaults  # type: ignore[return-value]
    try:
        params = tuple(float(value) for value in given)
    except (TypeError, ValueError, OverflowError):
        raise SpecError(f"activation: {shown(activation)}, expected numbers as parameters") from None
    if len(params) != len(defaults):
        wanted = f"{len(defaults)} parameters" if defaults else "no parameters"
        raise SpecError(f"activation: {shown(activation)}, expected {wanted} for {name}")
    if any(math.isnan(value) for value in params):
        raise SpecError(f"activation: {shown(activation)}, expected parameters that are not NaN")
    if name == "clip":
        if params[0] > params[1]:
            raise SpecError(f"activation: {shown(activation)}, expected lo <= hi")
    elif any(math.isinf(value) for value in params):
        raise SpecError(f"activation: {shown(activation)}, expected finite parameters")
    return name, params


def _float_text(value: float) -> str:
    value = value or 0.0  # no "-0": it would be a second text for the same bound
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
