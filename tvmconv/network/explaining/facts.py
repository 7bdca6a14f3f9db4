"""A network told node by node: sizes, parameters, multiply-adds, receptive fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.network.explaining.fields import Fields
from tvmconv.network.explaining.parts import part, value_of
from tvmconv.network.graph import Graph, Node
from tvmconv.network.importing import import_model
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.graph import node_name
from tvmconv.onnx.reading.model import Shapes, Source, load
from tvmconv.specs.arithmetic import Field
from tvmconv.specs.operators import Layer, Recurrent, Type


@dataclass(frozen=True)
class NodeFacts:
    """One node. value: the first that it makes. source: names of the model's nodes that are in it. kind: what
    they are. reads: the values that it reads and that are not constants. parameters: learnt numbers; what
    several layers share counts in each. field: of its result, by axis of the origin; None for an axis
    whose whole length it may see; nothing at all for a node that sees nothing of the origin."""

    value: str
    source: tuple[str, ...]
    kind: str
    reads: tuple[str, ...]
    inputs: tuple[Type, ...]
    output: Type
    parameters: int
    macs: int
    field: Mapping[int, Field | None]


@dataclass(frozen=True, eq=False)
class Explained:
    """graph: the network, channels-first as the model, batch norms and activations folded into its layers.
    fields: what its values see of the origin; None where the model takes no image. nodes: in order."""

    graph: Graph
    fields: Fields | None
    nodes: tuple[NodeFacts, ...]

    @property
    def parameters(self) -> int:
        """Learnt numbers."""
        return sum(node.parameters for node in self.nodes)

    @property
    def macs(self) -> int:
        """Multiply-adds of one call, those on padding included."""
        return sum(node.macs for node in self.nodes)


def explain(
    source: Source, shapes: Shapes | None = None, *, fixed: Fixed | None = None,
    start: str | None = None, end: str | None = None,
) -> Explained:  # fmt: skip
    """A model node by node.

    ``shapes``, ``fixed``: as `tvmconv.network.compile` takes them. ``start``: a value or a node; receptive
    fields are seen from there, and only nodes that depend on it are told (default: the first input that is an
    image). ``end``: only what it depends on is told. Raises SpecError for names that the model does not have,
    errors as `compile`.
    """
    whole = load(source)
    model = whole if end is None else part(whole, value_of(whole, end, "end"))
    graph = import_model(model, shapes, fixed=fixed)
    kinds = {node_name(node): node.op_type for node in model.graph.nodes}
    if start is None:
        origin = next((name for name in graph.inputs if len(graph.type(name).shape) > 2), None)
    else:
        origin = value_of(whole, start, "start")
        if origin not in graph.values:
            raise SpecError(
                f"start: {start!r}, expected a value that is left once batch norms and activations are "
                f"folded into layers, and that {end or 'a result'} depends on"
            )
    fields = None if origin is None else Fields(graph, origin)
    told: list[NodeFacts] = []
    for node in graph.nodes:
        if start is None or (fields and node.output in fields.seen and node.output != origin):
            told.append(_facts(graph, node, kinds, fields))
    return Explained(graph, fields, tuple(told))


def _facts(graph: Graph, node: Node, kinds: Mapping[str, str], fields: Fields | None) -> NodeFacts:
    reads = tuple(name for name in node.inputs if name not in graph.constants)
    learnt = {name for name in node.inputs if name in graph.constants and _is_learnt(graph, node, name)}
    parameters = sum(graph.type(name).size for name in learnt)
    seen = {} if fields is None else fields.seen.get(node.output)
    field = {} if seen is None or fields is None else {
        axis: seen[axis].sight.field() if axis in seen else None for axis in fields.axes
    }  # fmt: skip
    kind = "+".join(dict.fromkeys(kinds.get(name, node.op.kind) for name in node.source)) or node.op.kind
    return NodeFacts(
        node.output, node.source, kind, reads, tuple(graph.type(name) for name in reads),
        graph.type(node.output), parameters, node.op.macs, field,
    )  # fmt: skip


def _is_learnt(graph: Graph, node: Node, name: str) -> bool:
    """Whether a constant is an array that was learnt, not a number of an operator's."""
    if isinstance(node.op, Layer):
        argument = node.op.arguments[node.inputs.index(name)]
        return any(o.name == argument and not o.is_quantisation for o in node.op.spec.weights)
    if isinstance(node.op, Recurrent) and node.op.initial:  # states come after w, r and b
        states = node.inputs[4 : len(node.inputs) - node.op.peephole]
        return name not in states
    type_ = graph.type(name)
    return type_.dtype in FLOATS and type_.size > 1
