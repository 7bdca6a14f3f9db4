"""ONNX's LSTM and GRU, and onnxruntime's LSTM of 8-bit weights."""

from __future__ import annotations

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.graph import Node
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.network.spellings.quantising import Weights, integer_product, quantised
from tvmconv.specs.operators import Recurrent
from tvmconv.specs.operators.copy import indexed, joined, permuted
from tvmconv.specs.operators.recurrent import ACTIVATIONS, DIRECTIONS

_DEFAULTS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}


def _recurrent(call: Call) -> None:
    told, cell = call.attributes, call.kind.lower()
    direction, activations = _told(call, cell)
    batch_first, dtype = bool(told.get("layout", 0)), call.type(0).dtype
    x = call.input(0)
    if batch_first:
        x = call.between(permuted(call.type(0), (1, 0, 2)), [x])
    steps, batch, _ = call.editor.types[x].shape
    lengths = call.known(4)
    if call.has(4) and (lengths is None or (lengths != steps).any()):
        raise Error(f"sequence_lens: expected none, or {steps} for all")
    directions, rows, hidden = call.type(2).shape
    values = [x, call.input(1), call.input(2)]
    values.append(call.input(3) if call.has(3) else call.array(np.zeros((directions, 2 * rows)), dtype))
    states = (5, 6) if cell == "lstm" else (5,)
    initial = any(call.has(number) for number in states)
    for number in states if initial else ():
        if not call.has(number):
            values.append(call.array(np.zeros((directions, batch, hidden)), dtype))
        elif batch_first:
            values.append(call.between(permuted(call.type(number), (1, 0, 2)), [call.input(number)]))
        else:
            values.append(call.input(number))
    peephole = cell == "lstm" and call.has(7)
    if peephole:
        values.append(call.input(7))
    op = Recurrent(
        tuple(call.editor.types[value] for value in values), cell, direction, activations, initial, peephole,
        bool(told.get("linear_before_reset", 0)) and cell == "gru",
    )  # fmt: skip
    made = [call.editor.fresh(f"{call.node.output[0] or call.name}.{part}") for part in ("y", "h", "c")]
    made = made[: len(op.infer())]
    call.editor.put(Node(op, tuple(values), tuple(made), (call.name,)))
    for number, value in enumerate(made):
        if number >= len(call.node.output) or not call.node.output[number]:
            continue
        if not batch_first:
            call.give_value(value, number)
        else:  # (S, D, N, H) to (N, S, D, H), (D, N, H) to (N, D, H)
            order = (2, 0, 1, 3) if number == 0 else (1, 0, 2)
            call.give(permuted(call.editor.types[value], order), [value], number)


def _told(call: Call, cell: str) -> tuple[str, tuple[str, ...]]:
    """The direction and the activations that attributes state. Raises Error for what is not supported."""
    told = call.attributes
    direction = told.get("direction", "forward")
    if direction not in DIRECTIONS:
        raise Error(f"direction: {direction!r}, expected one of {', '.join(DIRECTIONS)}")
    if "clip" in told:
        raise Error(f"clip: {told['clip']}, expected none")
    if told.get("input_forget"):
        raise Error("input_forget: 1, expected 0")
    stated = told.get("activations")
    names = [n.decode() if isinstance(n, bytes) else n for n in stated] if stated else None
    activations = tuple(n.lower() for n in names) if names else _DEFAULTS[cell] * DIRECTIONS[direction]
    if set(activations) - set(ACTIVATIONS) or told.get("activation_alpha") or told.get("activation_beta"):
        raise Error(f"activations: {', '.join(names or [])}, expected some of {', '.join(ACTIVATIONS)}")
    return direction, activations


_MOST_STEPS = 512


def _quantised_lstm(call: Call) -> None:
    """Products of 8-bit integers: x is quantised as a whole, the state anew before each step. Unrolled."""
    direction, activations = _told(call, "lstm")
    steps, batch, _ = call.type(0).shape
    lengths, matrices = call.known(4), [call.constant(number, what) for number, what in ((1, "W"), (2, "R"))]
    if call.has(4) and (lengths is None or (lengths != steps).any()):
        raise Error(f"sequence_lens: expected none, or {steps} for all")
    if call.has(7) or not 0 < steps <= _MOST_STEPS:
        given = "given" if call.has(7) else "left out"
        raise Error(f"{steps} steps, P {given}, expected 1 to {_MOST_STEPS}, and no P")
    directions, hidden, gates = matrices[1].shape
    scales = [call.constant(number, what) for number, what in ((8, "W_scale"), (10, "R_scale"))]
    zeros = [call.known(number) for number in (9, 11)]
    bias = call.constant(3, "B") if call.has(3) else np.zeros((directions, 2 * gates), np.float32)
    x, x_scale, x_zero = quantised(call, call.input(0))
    every, last = [], []
    for d in range(directions):
        of_x, of_h = (
            Weights.of(call, matrix[d], None if zero is None else zero.reshape(directions, -1)[d])
            for matrix, zero in zip(matrices, zeros, strict=True)
        )
        scale = [call.array(one.reshape(directions, -1)[d], "float32") for one in scales]
        both = call.array(bias[d, :gates] + bias[d, gates:], "float32")
        text = "mul(cast_float32(a),cast_float32(mul(b,c)))"
        product = integer_product(call, x, x_zero, of_x)
        given = call.between(*call.map(text, [product, x_scale, scale[0]]))
        h, c = (_part(call, call.input(at), 0, d, d + 1, (batch, hidden)) if call.has(at)
                else call.array(np.zeros((batch, hidden)), "float32") for at in (5, 6))  # fmt: skip
        f, g, out = activations[3 * d : 3 * d + 3]
        outputs = []
        back = direction == "reverse" or d == 1
        for step in range(steps)[:: -1 if back else 1]:
            now = _part(call, given, 0, step, step + 1, (batch, gates))
            state, s, z = quantised(call, h)
            product = integer_product(call, state, z, of_h)
            text = "add(cast_float32(add(d,mul(cast_float32(a),cast_float32(mul(b,c))))),e)"
            sums = call.between(*call.map(text, [product, s, scale[1], now, both]))
            i, o, forget, cell = (
                _part(call, sums, 1, at * hidden, (at + 1) * hidden, (batch, hidden)) for at in range(4)
            )
            c = call.between(*call.map(f"add(mul({f}(a),b),mul({f}(c),{g}(d)))", [forget, c, i, cell]))
            h = call.between(*call.map(f"mul({f}(a),{out}(b))", [o, c]))
            outputs.append(h)
        every.append(outputs[:: -1 if back else 1])
        last.append((h, c))
    wide = [call.reshape(one, (1, 1, batch, hidden)) for step in zip(*every, strict=True) for one in step]
    y = call.between(joined([call.editor.types[one] for one in wide], 0), wide)
    results = [call.reshape(y, (steps, directions, batch, hidden))]
    for states in zip(*last, strict=True):
        parts = [call.reshape(one, (1, batch, hidden)) for one in states]
        whole = parts[0] if directions == 1 else call.between(
            joined([call.editor.types[one] for one in parts], 0), parts)  # fmt: skip
        results.append(whole)
    for number, value in enumerate(results):
        if number < len(call.node.output) and call.node.output[number]:
            call.give_value(value, number)


def _part(call: Call, value: str, axis: int, first: int, end: int, shape: tuple[int, ...]) -> str:
    """Some elements of a value along an axis, in this shape."""
    x = call.editor.types[value]
    vectors = [range(first, end) if dim == axis else None for dim in range(len(x.shape))]
    return call.reshape(call.between(indexed(x, vectors), [value]), shape)


IMPORTERS: dict[str, Importer] = {"LSTM": _recurrent, "GRU": _recurrent}
OF_ONNXRUNTIME: dict[str, Importer] = {"DynamicQuantizeLSTM": _quantised_lstm}
"""Those of its own domain, com.microsoft."""
