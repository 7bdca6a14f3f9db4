"""Values of a model by the names that people know, and the part of a model that makes one."""

from __future__ import annotations

from dataclasses import replace

from tvmconv.base.errors import SpecError
from tvmconv.base.messages import hint, near, shown
from tvmconv.onnx.reading.graph import Graph, node_name
from tvmconv.onnx.reading.model import Model
from tvmconv.onnx.reading.session import part_of


def value_of(model: Model, name: str, argument: str) -> str:
    """The value of this name, or the first result of the node of this name. Raises SpecError."""
    nodes = {node_name(node): next(out for out in node.output if out) for node in model.graph.nodes}
    values = {out for node in model.graph.nodes for out in node.output if out} | set(model.inputs)
    if name in values:
        return name
    if name in nodes:
        return nodes[name]
    found = hint(near(name, {*values, *nodes}))
    raise SpecError(
        f"{argument}: {shown(name)}, expected a value or a node of {model.name}{found}; "
        f"'tvmconv explain {model.name}' lists them"
    )


def part(model: Model, value: str) -> Model:
    """The model whose one result is a value of it."""
    proto = part_of(model.proto, [value])
    return replace(model, proto=proto, graph=Graph(proto, model.opset))
