"""Recognising the activation that follows a convolution, however an exporter spelled it.

The element-wise nodes after a value are read as an expression of it (`expressions`), and the expression's
normal form is looked up among the activations that a kernel can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.expressions import Expression, X, read, spelled
from tvmconv.onnx.reading.graph import Graph, attributes
from tvmconv.onnx.recognising.folding import per_channel
from tvmconv.specs.activations import ACTIVATIONS, canonical_activation, clamp_of

if TYPE_CHECKING:
    from onnx import NodeProto

_MAX_NODES = 12  # of one activation


@dataclass(frozen=True)
class Match:
    """An activation found: its canonical text, the nodes that it stands for, the value that they make.

    slopes: of "prelu", one per channel."""

    activation: str
    nodes: tuple[NodeProto, ...]
    value: str
    slopes: np.ndarray | None = None


def match(graph: Graph, value: str, channels: int, rank: int) -> Match | None:
    """The largest activation that starts at `value`, (N, channels, *spatial) of `rank` dims, and is all that
    reads it."""
    expressions: dict[str, Expression] = {value: X}
    behind: dict[str, list[NodeProto]] = {value: []}  # the nodes between x and a value, in order
    best: Match | None = None
    queue = [value]
    while queue and len(expressions) <= _MAX_NODES:
        for node in graph.consumers(queue.pop(0)):
            output = node.output[0] if node.output else ""
            if not output or output in expressions:
                continue
            expression = _read(graph, node, expressions, rank)
            if expression is None:
                continue
            expressions[output] = expression
            parts = [part for name in node.input for part in behind.get(name, ())]
            behind[output] = list({id(part): part for part in [*parts, node]}.values())
            queue.append(output)
            activation = recognise(expression)
            larger = best is None or len(behind[output]) > len(best.nodes)
            if activation and larger and _is_closed(graph, value, behind[output], output):
                best = Match(activation, tuple(behind[output]), output)
    return best or _prelu(graph, value, channels, rank)


def _prelu(graph: Graph, value: str, channels: int, rank: int) -> Match | None:
    """PRelu with a slope for each channel, as the one node that reads `value`."""
    consumers = graph.consumers(value)
    if len(consumers) != 1 or value in graph.outputs:
        return None
    (node,) = consumers
    standard = node.domain in ("", "ai.onnx") and node.op_type == "PRelu" and len(node.input) == 2
    slopes = graph.constant(node.input[1]) if standard and node.input[0] == value else None
    if slopes is None:
        return None
    if graph.opset < 7 and slopes.shape == (channels,):
        each: np.ndarray | None = slopes  # before opset 7 they belonged to the channels, not to the last dim
    else:
        each = per_channel(slopes, channels, rank)
    if each is None:
        return None
    return Match("prelu", (node,), node.output[0], np.array(np.broadcast_to(each, (channels,))))


def recognise(expression: Expression) -> str | None:
    """The canonical text of an activation of x; None for anything else."""
    if expression == X:
        return None
    for name, form in _forms():
        params = _params(form, expression)
        if params is None:
            continue
        defaults = ACTIVATIONS[name].defaults
        if None not in defaults and all(map(_near, params, defaults)):  # type: ignore[arg-type]
            return name
        try:
            return _named(canonical_activation((name, *map(_short, params))))
        except SpecError:
            return None  # bounds that make no clamp, and the like
    return None


@cache
def _forms() -> tuple[tuple[str, Expression], ...]:
    """(activation, normal form) of every way to have one, None for each parameter."""
    found = []
    for name, row in ACTIVATIONS.items():
        if row.slopes:
            continue
        forms = [(name, *(None,) * len(row.defaults), X), row.form, spelled(row.spelled)]
        found += [(name, form) for form in forms if form]
    return tuple(found)


def _params(form: Any, expression: Any) -> list[float] | None:
    """What stands for each None of a form in an expression; None if that is not of the form."""
    if form is None:
        return [expression]
    if isinstance(form, float):
        return [] if isinstance(expression, float) and _near(expression, form) else None
    if not isinstance(form, tuple):
        return [] if form == expression else None
    if not isinstance(expression, tuple) or (form[0], len(form)) != (expression[0], len(expression)):
        return None
    orders = [expression[1:], expression[:0:-1]] if form[0] == "product" else [expression[1:]]
    for parts in orders:
        found = [_params(one, other) for one, other in zip(form[1:], parts, strict=True)]
        if None not in found:
            return [value for values in found for value in values or ()]
    return None


def _named(activation: str | None) -> str | None:
    """The name alone where a clamp is one that has a name of its own."""
    bounds = clamp_of(activation)
    names = (name for name, row in ACTIVATIONS.items() if row.bounds and not row.defaults)
    return next((name for name in names if bounds == clamp_of(name)), activation)


def _read(graph: Graph, node: NodeProto, known: dict[str, Expression], rank: int) -> Expression | None:
    """The expression of a node's first result; None if it is not one of x and scalar constants alone."""
    if node.domain not in ("", "ai.onnx") or not node.input:
        return None
    if len([name for name in node.output if name]) > 1:
        return None
    operands: list[Expression | float | None] = []
    for name in node.input:
        if name in known:
            operands.append(known[name])
        elif not name:
            operands.append(None)
        else:
            constant = graph.constant(name)
            if constant is None or constant.size != 1 or constant.ndim > rank or constant.dtype.kind != "f":
                return None
            operands.append(float(constant.reshape(())))
    return read(node.op_type, operands, attributes(node))


def _is_closed(graph: Graph, value: str, nodes: list[NodeProto], end: str) -> bool:
    """Whether nothing but `nodes` reads `value` or what lies between it and `end`."""
    inside = {id(node) for node in nodes}
    between = [value, *(name for node in nodes for name in node.output if name and name != end)]
    return all(
        name not in graph.outputs and all(id(node) in inside for node in graph.consumers(name))
        for name in between
    )


def _near(a: float, b: float) -> bool:
    """Equal up to float32's rounding of the model's constants."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)


def _short(value: float) -> float:
    """A float32's shortest decimal: 0.2 for the attribute 0.20000000298023224."""
    return float(str(np.float32(value))) if math.isfinite(value) else value
