"""Recognising the activation that follows a convolution, however an exporter spelled it.

The element-wise nodes after a value are read as an expression of it (`expressions`), and the expression's
normal form is looked up among the activations that a kernel can do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.expressions import Expression, X, read
from tvmconv.onnx.reading.graph import Graph, attributes
from tvmconv.onnx.recognising.folding import per_channel
from tvmconv.specs.descriptor import canonical_activation

if TYPE_CHECKING:
    from onnx import NodeProto

_INF = math.inf
_MAX_NODES = 12  # of one activation


@dataclass(frozen=True)
class Match:
    """An activation found: its canonical text, the nodes that it stands for, the value that they make.

    slopes: of "prelu", one a channel."""

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
    kind, *rest = expression
    found: tuple[Any, ...] | None = None
    if kind in _PLAIN and rest == [X]:
        found = (kind,)
    elif kind == "leaky_relu" and rest[1] == X:
        found = ("leaky_relu", _short(rest[0]))
    elif kind == "clip":
        found = _clamp(*rest)
    elif kind == "product":
        found = _gate(*rest)
    try:
        return canonical_activation(found) if found else None
    except SpecError:
        return None  # bounds that make no clamp, and the like


_PLAIN = ("sigmoid", "tanh", "gelu", "gelu_tanh", "silu", "hard_swish")


def _clamp(lo: float, hi: float, inner: Expression) -> tuple[Any, ...] | None:
    if inner == X:
        named = {(0.0, _INF): ("relu",), (0.0, 6.0): ("relu6",)}
        return named.get((lo, hi), ("clip", _short(lo), _short(hi)))
    if inner[0] == "affine" and inner[3] == X and _near(lo, 0) and _near(hi, 1):
        alpha, beta = inner[1:3]
        is_default = _near(alpha, 1 / 6) and _near(beta, 0.5)
        return ("hard_sigmoid",) if is_default else ("hard_sigmoid", _short(alpha), _short(beta))
    return None


def _gate(left: Expression, right: Expression) -> tuple[Any, ...] | None:
    if X not in (left, right):
        return None
    gate = right if left == X else left
    if gate == ("sigmoid", X):
        return ("silu",)
    if gate[0] == "clip" and _clamp(*gate[1:]) == ("hard_sigmoid",):
        return ("hard_swish",)
    if gate[0] == "affine" and gate[3][0] == "erf" and _near(gate[1], 0.5) and _near(gate[2], 0.5):
        inner = gate[3][1]
        if inner[0] == "affine" and inner[3] == X and _near(inner[1], math.sqrt(0.5)) and _near(inner[2], 0):
            return ("gelu",)
    return None


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
    """Equal but for float32's rounding of the model's constants."""
    return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-7)


def _short(value: float) -> float:
    """A float32's shortest decimal: 0.2 for the attribute 0.20000000298023224."""
    return float(str(np.float32(value))) if math.isfinite(value) else value
