"""ONNX's reductions, normalisations and products."""

from __future__ import annotations

from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.specs.operators import MatMul, Normalise, Reduce
from tvmconv.specs.operators.base import number_text, read_axes
from tvmconv.specs.operators.copy import permuted, reshaped

_PLAIN = {
    "ReduceSum": "sum", "ReduceMean": "mean", "ReduceMax": "max", "ReduceMin": "min", "ReduceProd": "prod",
    "ReduceL1": "l1", "ReduceL2": "l2",
}  # fmt: skip


def _axes(call: Call) -> tuple[int, ...] | None:
    """The axes of a reduction; None where it is to reduce nothing."""
    rank, stated = len(call.type(0).shape), call.ints(1, "axes")
    if not stated:
        return None if call.attributes.get("noop_with_empty_axes") else tuple(range(rank))
    return read_axes("axes", stated, rank)


def _reduce(call: Call) -> None:
    axes = _axes(call)
    if axes is None:
        call.give_value(call.input(0))
        return
    keep = bool(call.attributes.get("keepdims", 1))
    call.give(Reduce((call.type(0),), _PLAIN[call.kind], axes, keep), [call.input(0)])


def _written_out(before: str, after: str):
    """A sum with element-wise expressions before and after it."""

    def read(call: Call) -> None:
        axes, keep, value = _axes(call), bool(call.attributes.get("keepdims", 1)), call.input(0)
        if before:
            value = call.between(*call.map(before, [value]))
        if axes is not None:
            op = Reduce((call.editor.types[value],), "sum", axes, keep)
            value = call.between(op, [value]) if after else call.give(op, [value])
        if after:
            call.give_map(after, [value])
        elif axes is None:
            call.give_value(value)

    return read


def _log_sum_exp(call: Call) -> None:
    axes, keep, x = _axes(call), bool(call.attributes.get("keepdims", 1)), call.input(0)
    if axes is None:
        call.give_value(x)
        return
    peak = call.between(Reduce((call.type(0),), "max", axes), [x])
    peak = call.between(*call.map("clip(a,-3e38,3e38)", [peak]))  # an infinite one would make NaN
    apart = call.between(*call.map("exp(sub(a,b))", [x, peak]))
    total = call.between(Reduce((call.editor.types[apart],), "sum", axes), [apart])
    op, reads = call.map("add(log(a),b)", [total, peak])
    shape = Reduce((call.type(0),), "sum", axes, keep).infer()[0].shape
    if op.infer()[0].shape == shape:
        call.give(op, reads)
    else:
        value = call.between(op, reads)
        call.give(reshaped(call.editor.types[value], shape), [value])


def _arg(call: Call) -> None:
    x = call.type(0)
    keep, last = bool(call.attributes.get("keepdims", 1)), bool(call.attributes.get("select_last_index", 0))
    op = Reduce((x,), call.kind.lower(), (call.axis(0, len(x.shape)),), keep, last)
    call.give(op, [call.input(0)])


def _softmax(call: Call) -> None:
    x, method = call.type(0), {"Softmax": "softmax", "LogSoftmax": "log_softmax"}[call.kind]
    rank = len(x.shape)
    if call.opset >= 13:
        call.give(Normalise((x,), method, (call.axis(-1, rank),)), [call.input(0)])
        return
    axis = call.axis(1, rank) if rank > 1 else 0  # all dims from this one on are one
    call.give(Normalise((x,), method, tuple(range(axis, rank))), [call.input(0)])


def _layer_norm(call: Call) -> None:
    x = call.type(0)
    axes = tuple(range(call.axis(-1, len(x.shape)), len(x.shape)))
    epsilon = float(call.attributes.get("epsilon", 1e-5))
    values = call.inputs()
    types = tuple(call.editor.types[value] for value in values)
    call.give(Normalise(types, "standard", axes, epsilon), values)
    if not any(call.node.output[1:]):
        return
    mean = Reduce((x,), "mean", axes)
    wanted = [*call.node.output, "", ""][1:3]
    value = call.give(mean, [call.input(0)], 1) if wanted[0] else call.between(mean, [call.input(0)])
    if wanted[1]:
        squares = call.between(*call.map("mul(sub(a,b),sub(a,b))", [call.input(0), value]))
        variance = call.between(Reduce((x,), "mean", axes), [squares])
        call.give_map(f"reciprocal(sqrt(add(a,{number_text(epsilon)})))", [variance], output=2)


def _rms_norm(call: Call) -> None:
    values, rank = call.inputs(), len(call.type(0).shape)
    axes = tuple(range(call.axis(-1, rank), rank))
    types = tuple(call.editor.types[value] for value in values)
    call.give(Normalise(types, "rms", axes, float(call.attributes.get("epsilon", 1e-5))), values)


def _instance_norm(call: Call) -> None:
    shape = call.type(0).shape
    if len(shape) < 3:
        raise Error(f"x: {call.type(0)}, expected 3 dims or more")
    channels = (shape[1], *(1,) * (len(shape) - 2))
    values = [call.input(0), *(call.reshape(call.input(n), channels) for n in (1, 2))]
    types = tuple(call.editor.types[value] for value in values)
    epsilon = float(call.attributes.get("epsilon", 1e-5))
    call.give(Normalise(types, "standard", tuple(range(2, len(shape))), epsilon), values)


def _group_norm(call: Call) -> None:
    """Groups of channels as a dim of their own."""
    x, groups = call.type(0), int(call.attributes["num_groups"])
    n, c, *spatial = x.shape
    if groups < 1 or c % groups:
        raise Error(f"num_groups: {groups}, expected a divisor of {c}")
    each = c // groups
    affine = []
    for number in (1, 2):
        per_group = call.opset < 21 and call.type(number).shape == (groups,)
        shape = (groups, 1 if per_group else each, *(1,) * len(spatial))
        affine.append(call.reshape(call.input(number), shape))
    apart = call.reshape(call.input(0), (n, groups, each, *spatial))
    values = [apart, *affine]
    types = tuple(call.editor.types[value] for value in values)
    axes = tuple(range(2, len(types[0].shape)))
    value = call.between(
        Normalise(types, "standard", axes, float(call.attributes.get("epsilon", 1e-5))), values
    )
    call.give(reshaped(types[0], x.shape), [value])


def _lrn(call: Call) -> None:
    told = call.attributes
    op = Normalise(
        (call.type(0),), "lrn", (1,), 0.0, int(told["size"]), float(told.get("alpha", 1e-4)),
        float(told.get("beta", 0.75)), float(told.get("bias", 1.0)),
    )  # fmt: skip
    call.give(op, [call.input(0)])


def _matmul(call: Call) -> None:
    values = [call.input(0), call.input(1)]
    a, b = (call.editor.types[value].shape for value in values)
    if len(a) == 1:
        values[0] = call.reshape(values[0], (1, *a))
    if len(b) == 1:
        values[1] = call.reshape(values[1], (*b, 1))
    op = MatMul(tuple(call.editor.types[value] for value in values))
    if len(a) > 1 and len(b) > 1:
        call.give(op, values)
        return
    shape = op.infer()[0].shape
    value = call.between(op, values)
    kept = (*shape[:-2], *(() if len(a) == 1 else shape[-2:-1]), *(() if len(b) == 1 else shape[-1:]))
    call.give(reshaped(op.infer()[0], kept), [value])


def _gemm(call: Call) -> None:
    told = call.attributes
    alpha, beta = float(told.get("alpha", 1.0)), float(told.get("beta", 1.0))
    values, flags = [call.input(0), call.input(1)], [bool(told.get("transA")), bool(told.get("transB"))]
    for number in range(2):
        if flags[number] and values[number] in call.editor.constants:
            order = permuted(call.editor.types[values[number]], (1, 0))
            values[number], flags[number] = call.between(order, [values[number]]), False
    whole = call.editor.types[values[0]].dtype.startswith(("int", "uint"))
    if whole and not (alpha.is_integer() and beta.is_integer()):
        raise Error(f"alpha {alpha}, beta {beta}: expected whole numbers, as x has")
    if alpha != 1:
        at = 1 if values[1] in call.editor.constants else 0
        values[at] = call.between(*call.map(f"mul(a,{number_text(alpha)})", [values[at]]))
    if call.has(2) and beta != 0:
        bias = call.input(2)
        values.append(bias if beta == 1 else call.between(*call.map(f"mul(a,{number_text(beta)})", [bias])))
    call.give(MatMul(tuple(call.editor.types[value] for value in values), *flags), values)


IMPORTERS: dict[str, Importer] = {
    **dict.fromkeys(_PLAIN, _reduce), "ArgMax": _arg, "ArgMin": _arg,
    "ReduceSumSquare": _written_out("mul(a,a)", ""), "ReduceLogSum": _written_out("", "log(a)"),
    "ReduceLogSumExp": _log_sum_exp, "Softmax": _softmax, "LogSoftmax": _softmax,
    "LayerNormalization": _layer_norm, "InstanceNormalization": _instance_norm, "RMSNormalization": _rms_norm,
    "GroupNormalization": _group_norm, "LRN": _lrn, "MatMul": _matmul, "Gemm": _gemm,
}  # fmt: skip

