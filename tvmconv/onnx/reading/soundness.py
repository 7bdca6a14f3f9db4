"""What a model must satisfy before it is read: sound tensors, UTF-8 text, nodes valid for their operators.

onnx's own checker demands more than working models have (types of all results, an order of the nodes), and
also less (data of tensors).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error
from tvmconv.onnx.reading.graph import is_standard, node_name, subgraphs
from tvmconv.onnx.reading.tensors import check_tensor

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import GraphProto, ModelProto, NodeProto

MOST_NODES = 1_000_000  # once functions are written out
_MOST_CALLS = 128  # of functions that call each other


def check_texts(message: Message) -> None:
    """Raise Error for a name, anywhere in a model, that is not UTF-8."""
    for field, value in message.ListFields():
        if field.type == field.TYPE_STRING:
            many = [value] if isinstance(value, (str, bytes)) else value
            for text in many:
                if isinstance(text, bytes):
                    raise Error(f"{field.full_name} {text!r}: not a text in UTF-8")
        elif field.type == field.TYPE_MESSAGE:
            for part in [value] if hasattr(value, "ListFields") else value:
                check_texts(part)


def check_functions(proto: ModelProto) -> None:
    """Raise Error for functions of a model that call each other in a cycle, or have too many nodes."""
    bodies = {(function.domain, function.name): function.node for function in proto.functions}
    called = {key: [_called(node) for node in _all(body)] for key, body in bodies.items()}
    calls = {key: set(keys) & bodies.keys() for key, keys in called.items()}
    try:
        order = TopologicalSorter(calls).static_order()
        sizes: dict[Any, int] = {}
        depths: dict[Any, int] = {}
        for key in order:
            sizes[key] = sum(sizes.get(inner, 1) for inner in called[key])
            depths[key] = 1 + max((depths.get(inner, 0) for inner in called[key]), default=0)
    except CycleError as error:
        raise Error(f"function {error.args[1][0][1]!r} calls itself") from None
    count = sum(sizes.get(_called(node), 1) for node in _all(proto.graph.node))
    if count > MOST_NODES:
        raise Error(f"{count} nodes, its functions written out; expected at most {MOST_NODES}")
    if max(depths.values(), default=0) > _MOST_CALLS:
        raise Error(f"functions call each other {max(depths.values())} deep, expected at most {_MOST_CALLS}")


def check_graph(proto: ModelProto, opset: int) -> None:
    """Raise Error for a graph with damaged tensors or nodes, or with two values of one name."""
    from onnx import TensorProto

    graph = proto.graph
    _check_tensors(graph)
    for value in graph.input:
        kind = value.type.tensor_type.elem_type
        if value.type.HasField("tensor_type") and kind not in TensorProto.DataType.values():
            raise Error(f"input {value.name!r}: element type {kind}, which is none of ONNX's")
    made = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        for name in node.output:
            if name in made:
                raise Error(f"node {node_name(node)}: makes {name!r}, which is there already")
            if name:
                made.add(name)
    for node in _all(graph.node):
        _check_node(node, opset)


def _check_node(node: NodeProto, opset: int) -> None:
    for attribute in node.attribute:
        for tensor in (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors):
            check_tensor(tensor)
    for graph in subgraphs(node):
        _check_tensors(graph)
    schema = _schema(node.op_type, opset) if is_standard(node) else None
    if schema is None:
        return
    what = f"node {node_name(node)}"
    for names, least, most, called in (
        (node.input, schema.min_input, schema.max_input, "inputs"),
        (node.output, schema.min_output, schema.max_output, "results"),
    ):
        if not least <= len(names) <= most:
            to = f"{least} to {most}" if most < 1 << 20 else f"at least {least}"
            wanted = least if least == most else to
            raise Error(f"{what}: {len(names)} {called}, expected {wanted} as {node.op_type} has")
    single = [parameter.option == parameter.option.Single for parameter in schema.inputs]
    for number, name in enumerate(node.input[: len(single)]):
        if not name and single[number]:
            raise Error(f"{what}: no {schema.inputs[number].name}, which {node.op_type} needs")
    if schema.min_output and not node.output[0]:
        raise Error(f"{what}: its first result has no name")
    given = {attribute.name: attribute for attribute in node.attribute}
    for name, wanted in schema.attributes.items():
        if name in given and int(given[name].type) != int(wanted.type.value):
            kind = given[name].AttributeType.Name(given[name].type)
            raise Error(f"{what}: {name} is of type {kind}, expected {wanted.type.name}")
        if name not in given and wanted.required:
            raise Error(f"{what}: no {name}, which {node.op_type} needs")
    if node.op_type == "Constant" and not node.attribute:
        raise Error(f"{what}: a Constant without a value")


@lru_cache(maxsize=4096)
def _schema(op_type: str, opset: int) -> Any:
    """The definition of a standard operator; None for one that is not known."""
    import onnx

    try:
        return onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return None


def _check_tensors(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        check_tensor(tensor)
    for sparse in graph.sparse_initializer:
        check_tensor(sparse.values)
        check_tensor(sparse.indices)


def _all(nodes: Any) -> Iterator[NodeProto]:
    """Nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from _all(graph.node)


def _called(node: NodeProto) -> tuple[str, str]:
    return node.domain, node.op_type
