"""The part of a model that is not among its layers: the nodes that another program has to run, and what is
inside them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from tvmconv.onnx.reading.graph import Graph, node_name, reads, subgraphs
from tvmconv.onnx.recognising.layers import Layer, LeftOver, Skipped

if TYPE_CHECKING:
    from onnx import NodeProto


def left_over(graph: Graph, layers: Sequence[Layer], operators: Collection[str]) -> list[LeftOver]:
    """The nodes that are needed for the graph's outputs once all layers have their kernels: neither part of a
    layer nor constant; in the graph's order. operators: to be counted where they are inside such a node."""
    by_result = {layer.y: layer for layer in layers}
    todo, seen, needed = list(graph.outputs), set(), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        layer, node = by_result.get(name), graph.producer(name)
        if layer is not None:
            todo += [*layer.inputs.values(), *layer.computed.values()]
        elif node is not None and graph.constant(name) is None:
            needed.add(id(node))
            todo += reads(node)
    return [
        LeftOver(node_name(node), node.op_type, _inside(node, operators))
        for node in graph.nodes
        if id(node) in needed
    ]


def nested(nodes: Sequence[NodeProto], operators: Collection[str]) -> list[Skipped]:
    """Nodes of these operators in the branches of If and the bodies of loops, which may run any number of
    times."""
    return [
        Skipped(node_name(inner), inner.op_type, f"inside a graph of node {node_name(node)}",
                f"{node.op_type} {node_name(node)}")
        for node in nodes
        for inner in _nodes_inside(node)
        if inner.op_type in operators
    ]  # fmt: skip


def counts(items: Sequence[Skipped | LeftOver]) -> str:
    """How many there are of each operator: "2 Conv, 1 MaxPool"; most first."""
    kinds = [item.op_type for item in items]
    each = sorted(dict.fromkeys(kinds), key=lambda kind: -kinds.count(kind))
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in each)


def _inside(node: NodeProto, operators: Collection[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for inner in _nodes_inside(node):
        if inner.op_type in operators:
            found[inner.op_type] = found.get(inner.op_type, 0) + 1
    return found


def _nodes_inside(node: NodeProto) -> Iterator[NodeProto]:
    for graph in subgraphs(node):
        for inner in graph.node:
            yield inner
            yield from _nodes_inside(inner)
