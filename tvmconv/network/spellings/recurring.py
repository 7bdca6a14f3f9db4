"""ONNX's LSTM and GRU."""

from __future__ import annotations

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.graph import Node
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.specs.operators import Recurrent
from tvmconv.specs.operators.copy import permuted
from tvmconv.specs.operators.recurrent import ACTIVATIONS, DIRECTIONS

_DEFAULTS = {"lstm": ("sigmoid", "tanh", "tanh"), "gru": ("sigmoid", "tanh")}


def _recurrent(call: Call) -> None:
    told, cell = call.attributes, call.kind.lower()
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


IMPORTERS: dict[str, Importer] = {"LSTM": _recurrent, "GRU": _recurrent}
