"""A graph's values: who makes them, who reads them, which are constants and what these are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tvmconv.dtypes import name_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

# Nodes whose result is a constant where their inputs are: what exporters put between weights and their use.
_FOLDABLE = {
    "Add", "Cast", "Concat", "ConstantOfShape", "DequantizeLinear", "Div", "Dropout", "Expand", "Flatten",
    "Gather", "Identity", "Mul", "Neg", "Pow", "QuantizeLinear", "Reciprocal", "Reshape", "Shape", "Slice",
    "Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze",
}  # fmt: skip


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
        self._opsets = list(proto.opset_import)
        self._ir_version = proto.ir_version
        self._producers = {name: node for node in self.nodes for name in node.output if name}
        self._consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys([*node.input, *_captured(node)]):
                if name:
                    self._consumers.setdefault(name, []).append(node)
        self._initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._constants: dict[str, np.ndarray | None] = {}

    def producer(self, value: str) -> NodeProto | None:
        """The node that makes a value; None for inputs and initialisers."""
        return self._producers.get(value)

    def consumers(self, value: str) -> list[NodeProto]:
        """The nodes that read a value, each once, those that read it inside a subgraph as well."""
        return self._consumers.get(value, [])

    def constant(self, value: str) -> np.ndarray | None:
        """The array of a value that no input can change; None where one can.

        An initialiser that is listed among the inputs as well (as old models have to) counts as a constant.
        """
        if value not in self._constants:
            self._constants[value] = None  # also what a damaged graph with a cycle gets
            self._constants[value] = self._evaluate(value)
        return self._constants[value]

    def _evaluate(self, value: str) -> np.ndarray | None:
        from onnx import numpy_helper

        if value in self._initializers:
            return numpy_helper.to_array(self._initializers[value])
        node = self.producer(value)
        if node is None or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type == "Constant":
            return _constant_node(node)
        if node.op_type not in _FOLDABLE or not any(node.input):
            return None
        arrays = {name: self.constant(name) for name in node.input if name}
        if any(array is None for array in arrays.values()):
            return None
        return self._run(node, arrays, value)

    def _run(self, node: NodeProto, arrays: dict[str, Any], value: str) -> np.ndarray | None:
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        result = helper.make_empty_tensor_value_info(value)
        weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
        graph = helper.make_graph([node], "constant", [], [result], weights)
        model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
        try:
            return np.asarray(ReferenceEvaluator(model).run([value], {})[0])
        except Exception:  # the evaluator raises what it likes; then the value is simply not known
            return None


def value_of(graph: Graph, known: Mapping[str, Value], name: str) -> Value:
    """Shape and type of a value that is known, or constant."""
    array = graph.constant(name)
    return known[name] if array is None else Value(array.shape, name_of(array))


def node_name(node: NodeProto) -> str:
    """What a node is called: its name, or its operator and first result where it has none."""
    if node.name:
        return node.name
    return f"{node.op_type}:{next((name for name in node.output if name), '')}"


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name: numbers, bytes decoded to text, lists, tensors, graphs."""
    from onnx import AttributeProto, helper

    def value(attribute: AttributeProto) -> Any:
        got = helper.get_attribute_value(attribute)
        return got.decode("utf-8", "replace") if isinstance(got, bytes) else got

    return {attribute.name: value(attribute) for attribute in node.attribute}


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


def _constant_node(node: NodeProto) -> np.ndarray | None:
    from onnx import numpy_helper

    (name, value), *_ = attributes(node).items()
    if name == "value":
        return numpy_helper.to_array(value)
    kinds = {"value_float": "float32", "value_floats": "float32", "value_int": "int64", "value_ints": "int64"}
    return np.asarray(value, kinds[name]) if name in kinds else None
