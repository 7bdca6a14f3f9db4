"""A graph's values: which nodes make and read them, and the values of constants."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import Error, SpecError
from tvmconv.onnx.reading.constants import Constants

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

class Value(NamedTuple):
    """Shape, and name of the type, of a value of a graph."""

    shape: tuple[int, ...]
    dtype: str


class Graph:
    """The main graph of a model, looked up by the names of its values."""

    def __init__(self, proto: ModelProto, opset: int) -> None:
        self.proto = proto.graph
        self.opset = opset
        self.nodes: list[NodeProto] = list(proto.graph.node)
        self.outputs = {value.name for value in proto.graph.output}
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in reads(node):
                self._consumers.setdefault(name, []).append(node)
        self._shapes: dict[str, Value] = {}
        self._constants = Constants(self, proto)

    def producer(self, value: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and initialisers."""
        return self._producers.get(value)

    def consumers(self, value: str) -> list[NodeProto]:
        """The nodes that read a value, each once, those that read it inside a subgraph as well."""
        return self._consumers.get(value, [])

    def learn(self, shapes: Mapping[str, Value]) -> None:
        """Adopt known shapes: what is computed from them is then constant."""
        self._shapes = dict(shapes)
        self._constants.forget_unknown()

    def constant(self, value: str) -> np.ndarray | None:
        """The array of a value that no input can change; None where one can.

        An initialiser that is listed among the inputs as well (as old models have to) counts as a constant.
        """
        return self._constants.of(value)

    def short_constants(self, most: int) -> dict[str, np.ndarray]:
        """Results of nodes that have at most so many elements and are computed from such constants alone."""
        return self._constants.short(self.nodes, most)

    def shape(self, value: str) -> tuple[int, ...] | None:
        """The learnt shape of a value; None if unknown."""
        known = self._shapes.get(value)
        return None if known is None else known.shape


def value_of(graph: Graph, known: Mapping[str, Value], name: str) -> Value:
    """Shape and type of a value that is known, or constant; raises Error for any other."""
    array = graph.constant(name)
    if array is not None:
        return Value(array.shape, name_of(array))
    if name not in known:
        raise Error(f"shape of {name!r}: not known")
    return known[name]


def is_standard(node: NodeProto) -> bool:
    """Whether a node's operator is one of ONNX's own, not of another domain."""
    return node.domain in ("", "ai.onnx")


def node_name(node: NodeProto) -> str:
    """What a node is called: its name, or its operator and first result where it has none."""
    if node.name:
        return node.name
    return f"{node.op_type}:{next((name for name in node.output if name), '')}"


@contextlib.contextmanager
def told_of(node: NodeProto) -> Iterator[None]:
    """SpecErrors, with the node that they are about."""
    try:
        yield
    except SpecError as error:
        raise SpecError(f"node {node_name(node)}: {error}") from None


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name: numbers, bytes decoded to text, lists, tensors, graphs."""
    from onnx import AttributeProto, helper

    def value(attribute: AttributeProto) -> Any:
        got = helper.get_attribute_value(attribute)
        return got.decode("utf-8", "replace") if isinstance(got, bytes) else got

    return {attribute.name: value(attribute) for attribute in node.attribute}


def reads(node: NodeProto) -> list[str]:
    """The values that a node reads, inside its graphs as well."""
    return [name for name in dict.fromkeys([*node.input, *_captured(node)]) if name]


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """The graphs inside a node: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _captured(node: NodeProto) -> Iterator[str]:
    """Names that the graphs inside a node read; those of their own values as well, which does no harm."""
    for graph in subgraphs(node):
        for inner in graph.node:
            yield from inner.input
            yield from _captured(inner)
        yield from (value.name for value in graph.output)
