"""ONNX's element-wise operators as maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer, dtype_named
from tvmconv.specs.operators.base import number_text
from tvmconv.specs.operators.expression import name_of_input

_LARGEST = 3.4028234e38


def _plain(expression: str) -> Importer:
    def read(call: Call) -> None:
        call.give_map(expression, [call.input(0)])

    return read


def _with(expression: str, **defaults: float) -> Importer:
    """An expression with attributes, in braces, as its numbers."""

    def read(call: Call) -> None:
        found = {name: number_text(call.attributes.get(name, value)) for name, value in defaults.items()}
        call.give_map(expression.format(**found), [call.input(0)])

    return read


def _two(expression: str) -> Importer:
    def read(call: Call) -> None:
        call.give_map(expression, _aligned(call))

    return read


def _aligned(call: Call) -> list[str]:
    """The two operands; before opset 7 an attribute said with which axis of the first the second begins."""
    a, b = call.input(0), call.input(1)
    if call.opset < 7 and call.attributes.get("broadcast") and "axis" in call.attributes:
        rank, shape = len(call.type(0).shape), call.type(1).shape
        axis = call.axis(0, rank)
        b = call.reshape(b, (*shape, *(1,) * (rank - axis - len(shape))))
    return [a, b]


_MOST_JOINED = 16


def _many(function: str) -> Importer:
    """A function of two, over all inputs."""

    def read(call: Call) -> None:
        values = _few(call, function)
        call.give_map(_nested(function, len(values)), values)

    return read


def _few(call: Call, function: str) -> list[str]:
    """All inputs, the first ones of more than a kernel takes joined by the function."""
    values = list(call.inputs())
    while len(values) > _MOST_JOINED:
        first = call.between(*call.map(_nested(function, _MOST_JOINED), values[:_MOST_JOINED]))
        values = [first, *values[_MOST_JOINED:]]
    return values


def _nested(function: str, count: int) -> str:
    text = "a"
    for number in range(1, count):
        text = f"{function}({text},{name_of_input(number)})"
    return text


def _mean(call: Call) -> None:
    values = _few(call, "add")
    call.give_map(f"div({_nested('add', len(values))},{len(call.inputs())})", values)


def _mod(call: Call) -> None:
    call.give_map("fmod(a,b)" if call.attributes.get("fmod") else "mod(a,b)", [call.input(0), call.input(1)])


def _clip(call: Call) -> None:
    values, text, dtype = [call.input(0)], "a", call.type(0).dtype
    for number, (name, function) in enumerate((("min", "max"), ("max", "min")), 1):
        if name in call.attributes:
            bound = float(call.attributes[name])
            if abs(bound) < _LARGEST:
                text = f"{function}({text},{number_text(bound)})"
        elif call.has(number):
            text = f"{function}({text},{name_of_input(len(values))})"
            values.append(call.input(number))
    if text.startswith("min(max(a,") and all(v in call.editor.constants for v in values[1:]):
        lo, hi = text[len("min(max(a,"):-1].split("),")
        text = f"clip(a,{lo},{hi})"
    if text == "a":
        call.give_value(values[0])
    else:
        call.give_map(text, values, dtype)


def _gelu(call: Call) -> None:
    how = call.attributes.get("approximate", "none")
    names = {"none": "gelu(a)", "tanh": "gelu_tanh(a)"}
    if how not in names:
        raise Error(f"approximate: {how!r}, expected none or tanh")
    call.give_map(names[how], [call.input(0)])


def _swish(call: Call) -> None:
    alpha = call.attributes.get("alpha", 1.0)
    text = "silu(a)" if alpha == 1 else f"mul(a,sigmoid(mul(a,{number_text(alpha)})))"
    call.give_map(text, [call.input(0)])


def _prelu(call: Call) -> None:
    x, slopes = call.input(0), call.input(1)
    rank, shape = len(call.type(0).shape), call.type(1).shape
    if call.opset < 7 and len(shape) == 1 and rank > 1:  # they belonged to the channels
        slopes = call.reshape(slopes, (shape[0], *(1,) * (rank - 2)))
    call.give_map("leaky_relu(a,b)", [x, slopes])


def _selu(call: Call) -> None:
    alpha = call.attributes.get("alpha", 1.6732631921768188)
    gamma = call.attributes.get("gamma", 1.0507010221481323)
    call.give_map(f"mul(elu(a,{number_text(alpha)}),{number_text(gamma)})", [call.input(0)])


def _celu(call: Call) -> None:
    alpha = number_text(call.attributes.get("alpha", 1.0))
    call.give_map(f"mul(elu(div(a,{alpha}),1),{alpha})", [call.input(0)])


def _shrink(call: Call) -> None:
    bias, limit = (number_text(call.attributes.get(k, v)) for k, v in (("bias", 0.0), ("lambd", 0.5)))
    inner = f"where(greater(a,{limit}),sub(a,{bias}),0)"
    call.give_map(f"where(less(a,neg({limit})),add(a,{bias}),{inner})", [call.input(0)], call.type(0).dtype)


def _cast(call: Call) -> None:
    dtype = dtype_named(call.attributes["to"] if isinstance(call.attributes["to"], int) else 0)
    _converted(call, dtype)


def _cast_like(call: Call) -> None:
    _converted(call, call.type(1).dtype)


def _converted(call: Call, dtype: str) -> None:
    if dtype == call.type(0).dtype:
        call.give_value(call.input(0))
    else:
        call.give_map(f"cast_{dtype}(a)", [call.input(0)])


def _where(call: Call) -> None:
    call.give_map("where(a,b,c)", call.inputs(), call.type(1).dtype)


def _pow(call: Call) -> None:
    call.give_map("pow(a,b)", _aligned(call), call.type(0).dtype)


def _batch_norm(call: Call) -> None:
    """(x - mean) / sqrt(variance + epsilon) * scale + shift of channels; of constants a product and a sum."""
    if call.attributes.get("training_mode") or any(call.node.output[1:]):
        raise Error("training_mode: statistics of the batch, expected those of inference")
    if call.opset < 9 and not call.attributes.get("spatial", 1):
        raise Error("spatial: 0, expected statistics of channels")
    shape, dtype = call.type(0)
    channels = (shape[1] if len(shape) > 1 else 1, *(1,) * (len(shape) - 2))
    epsilon = call.attributes.get("epsilon", 1e-5)
    arrays = [call.known(number) for number in range(1, 5)]
    if all(array is not None for array in arrays) and dtype in ("float32", "float64"):
        scale, shift, mean, variance = (np.asarray(array, np.float64) for array in arrays)
        with np.errstate(all="ignore"):
            factor = scale / np.sqrt(variance + epsilon)
        pair = [call.array(v.reshape(channels), dtype) for v in (factor, shift - mean * factor)]
        call.give_map("add(mul(a,b),c)", [call.input(0), *pair])
        return
    others = [call.reshape(call.input(number), channels) for number in range(1, 5)]
    text = f"add(mul(div(sub(a,d),sqrt(add(e,{number_text(epsilon)}))),b),c)"
    types = {call.editor.types[value].dtype for value in others}
    if types != {dtype}:
        raise Error(f"types {', '.join(sorted({*types, dtype}))}, expected one")
    call.give_map(text, [call.input(0), *others])


def _identity(call: Call) -> None:
    call.give_value(call.input(0))


def _dropout(call: Call) -> None:
    trains = call.known(2)
    if call.has(2) and (trains is None or trains.any()):
        raise Error("training_mode: expected False")
    call.give_value(call.input(0))
    if len(call.node.output) > 1 and call.node.output[1]:
        call.give_constant(np.ones(call.type(0).shape, bool), 1)


_UNARY: Sequence[str] = (
    "Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Neg", "Not", "Reciprocal", "Relu", "Round",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Tanh",
)  # fmt: skip

IMPORTERS: dict[str, Importer] = {
    **{name: _plain(f"{name.lower()}(a)") for name in _UNARY},
    "Add": _two("add(a,b)"), "Sub": _two("sub(a,b)"), "Mul": _two("mul(a,b)"), "Div": _two("div(a,b)"),
    "Equal": _two("equal(a,b)"), "Less": _two("less(a,b)"), "Greater": _two("greater(a,b)"),
    "LessOrEqual": _two("less_equal(a,b)"), "GreaterOrEqual": _two("greater_equal(a,b)"),
    "And": _two("and(a,b)"), "Or": _two("or(a,b)"), "Xor": _two("xor(a,b)"),
    "Max": _many("max"), "Min": _many("min"), "Sum": _many("add"), "Mean": _mean, "Mod": _mod, "Pow": _pow,
    "Clip": _clip, "Gelu": _gelu, "Swish": _swish, "PRelu": _prelu, "Selu": _selu, "Celu": _celu,
    "Elu": _with("elu(a,{alpha})", alpha=1.0), "LeakyRelu": _with("leaky_relu(a,{alpha})", alpha=0.01),
    "HardSigmoid": _with("hard_sigmoid(a,{alpha},{beta})", alpha=0.2, beta=0.5),
    "HardSwish": _plain("hard_swish(a)"), "Mish": _plain("mul(a,tanh(softplus(a)))"),
    "ThresholdedRelu": _with("thresholded_relu(a,{alpha})", alpha=1.0), "Shrink": _shrink,
    "IsNaN": _plain("is_nan(a)"), "Cast": _cast, "CastLike": _cast_like, "Where": _where,
    "BatchNormalization": _batch_norm, "Identity": _identity, "Dropout": _dropout,
}  # fmt: skip
