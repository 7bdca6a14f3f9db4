"""ONNX's Scan, and Loop of a count that is known, unrolled: the nodes of the body once a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.spellings.call import Call, Importer
from tvmconv.onnx.reading.graph import attributes, node_name
from tvmconv.onnx.reading.tensors import array_of
from tvmconv.specs.operators.base import read_axes
from tvmconv.specs.operators.copy import indexed, joined

if TYPE_CHECKING:
    from onnx import GraphProto

MOST_NODES = 8192  # of all steps


def _scan(call: Call) -> None:
    body, told = call.attributes["body"], call.attributes
    if call.opset < 9:
        raise Error("Scan of opset 8, with a dim of batches, expected opset 9 or newer")
    count = int(told["num_scan_inputs"])
    values = [call.input(number) for number in range(len(call.node.input))]
    states, read = values[:-count], values[-count:]
    axes = _axes(told.get("scan_input_axes"), [len(call.editor.types[value].shape) for value in read])
    sizes = {call.editor.types[value].shape[axis] for value, axis in zip(read, axes, strict=True)}
    if len(sizes) != 1:
        raise Error(f"scanned inputs of {sorted(sizes)} steps, expected as many of each")
    (steps,) = sizes
    back = list(told.get("scan_input_directions") or [0] * count)
    made: list[list[str]] = [[] for _ in body.output[len(states) :]]
    for step in range(_checked(body, steps)):
        parts = [
            _slice(call, value, axis, steps - 1 - step if reverse else step)
            for value, axis, reverse in zip(read, axes, back, strict=True)
        ]
        results = _run(call, body, [*states, *parts])
        states = results[: len(states)]
        for several, one in zip(made, results[len(states) :], strict=True):
            several.append(one)
    ranks = [len(call.editor.types[several[0]].shape) + 1 for several in made]
    to = _axes(told.get("scan_output_axes"), ranks)
    reversed_ = list(told.get("scan_output_directions") or [0] * len(made))
    stacked = [
        _stacked(call, several[::-1] if reverse else several, axis)
        for several, axis, reverse in zip(made, to, reversed_, strict=True)
    ]
    _give(call, [*states, *stacked])


def _loop(call: Call) -> None:
    body = call.attributes["body"]
    count = call.known(0)
    if count is None:
        what = "computed while the network runs" if call.has(0) else "left open"
        raise Error(f"number of steps: {what}, expected a constant (an input can be fixed by its value)")
    goes = _flag(call, call.value(call.node.input[1])) if call.has(1) else True
    states = [call.input(number) for number in range(2, len(call.node.input))]
    made: list[list[str]] = [[] for _ in body.output[len(states) + 1 :]]
    step, most = 0, _checked(body, int(count.reshape(())))
    while step < most and goes:
        first = [call.editor.constant(np.asarray(step, np.int64)), call.editor.constant(np.asarray(True))]
        going, *results = _run(call, body, [*first, *states])
        states = results[: len(states)]
        for several, one in zip(made, results[len(states) :], strict=True):
            several.append(one)
        goes, step = _flag(call, going), step + 1
    if any(not several for several in made):
        raise Error("no steps, and what they would make is of no known shape")
    _give(call, [*states, *(_stacked(call, several, 0) for several in made)])


def _flag(call: Call, value: str) -> bool:
    """A condition to go on. Raises Error for one that is computed."""
    found = call.editor.constants.get(value)
    if found is None:
        raise Error("condition: computed while the network runs, expected a constant")
    return bool(found.reshape(()))


def _checked(body: GraphProto, steps: int) -> int:
    """The number of steps. Raises Error for more nodes than are worth unrolling."""
    if not 0 < steps * len(body.node) <= MOST_NODES and steps:
        raise Error(f"{steps} steps of {len(body.node)} nodes, expected at most {MOST_NODES} nodes in all")
    return steps


def _axes(stated: Any, ranks: list[int]) -> list[int]:
    given = [int(axis) for axis in stated] if stated else [0] * len(ranks)
    return [read_axes("axes", [axis], rank)[0] for axis, rank in zip(given, ranks, strict=True)]


def _slice(call: Call, value: str, axis: int, at: int) -> str:
    """One step's part of what is gone through, without that axis."""
    x = call.editor.types[value]
    vectors = [range(at, at + 1) if dim == axis else None for dim in range(len(x.shape))]
    part = call.between(indexed(x, vectors), [value])
    return call.reshape(part, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _stacked(call: Call, values: list[str], axis: int) -> str:
    """Each step's value, one after the other along a new axis."""
    shape = call.editor.types[values[0]].shape
    wide = [call.reshape(value, (*shape[:axis], 1, *shape[axis:])) for value in values]
    if len(wide) == 1:
        return wide[0]
    return call.between(joined([call.editor.types[value] for value in wide], axis), wide)


def _give(call: Call, values: list[str]) -> None:
    for number, value in enumerate(values):
        if number < len(call.node.output) and call.node.output[number]:
            call.give_value(value, number)


def _run(call: Call, body: GraphProto, given: list[str]) -> list[str]:
    """The body's results on these values, which its inputs are, in its order."""
    from tvmconv.network.spellings import importer_of

    names = {value.name: name for value, name in zip(body.input, given, strict=True)}
    names.update((one.name, call.editor.constant(array_of(one), one.name)) for one in body.initializer)

    def value(name: str) -> str:
        return names[name] if name in names else call.value(name)

    for node in body.node:
        if node.op_type == "Constant":
            names[node.output[0]] = call.editor.constant(_constant(attributes(node)), node.output[0])
            continue
        importer = importer_of(node)
        if importer is None:
            raise Error(f"{node.op_type} (node {node_name(node)} of its body) is not supported there")
        bind: Callable[[str, str], None] = names.__setitem__
        importer(Call(call.editor, node, attributes(node), call.opset, call.name, value, bind))
    return [value(one.name) for one in body.output]


def _constant(told: dict[str, Any]) -> np.ndarray:
    ((name, stated),) = told.items()
    if name == "value":
        return array_of(stated)
    kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
             "value_ints": np.int64}  # fmt: skip
    if name not in kinds:
        raise Error(f"constant: {name}, expected one of value, {', '.join(kinds)}")
    return np.asarray(stated, kinds[name])


IMPORTERS: dict[str, Importer] = {"Scan": _scan, "Loop": _loop}
