"""The convolutions and poolings of a model as layers, each with what can be folded into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tvmconv.errors import Error, SpecError
from tvmconv.onnx.deform import deform_layer
from tvmconv.onnx.dequantised import dequantised_layer
from tvmconv.onnx.floats import conv_layer
from tvmconv.onnx.graph import Value, node_name, subgraphs
from tvmconv.onnx.integers import conv_integer_layer, qlinear_conv_layer
from tvmconv.onnx.layers import Extraction, Layer, Skipped
from tvmconv.onnx.model import Model, Shapes, Source, damage_told, load
from tvmconv.onnx.pooling import pool_layer
from tvmconv.onnx.shapes import infer_values, input_shapes

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

CONVOLUTIONS = ("Conv", "ConvTranspose")

_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_ARGUMENTS = {
    "Conv": (2, 3), "ConvTranspose": (2, 3), "ConvInteger": (2, 4), "QLinearConv": (8, 9),
    "DeformConv": (3, 5), **dict.fromkeys(_POOLS, (1, 1)),
}  # fmt: skip
"""Operators that become layers: how many inputs they have at least and at most."""

_RELATED = ("FusedConv", "NhwcFusedConv")
"""Operators that a user would look for in the result: told as skipped."""


def extract(source: Source | Model, shapes: Shapes | None = None, *, layout: str = "NCHW") -> Extraction:
    """Every convolution and pooling of a model (a path, a file's bytes, or a ModelProto) as a layer.

    shapes: of inputs with dynamic dimensions, by the input's name; or sizes by the dimension's name. layout:
    "NCHW", or "NHWC" for kernels and weights that are channels-last (deformable ones have no such kernels).
    Raises Error for a model that cannot be used or has no layer, SpecError for shapes that do not fit.
    """
    if layout not in ("NCHW", "NHWC"):
        raise SpecError(f"layout: {layout!r}, expected 'NCHW' or 'NHWC'")
    model = load(source)
    with damage_told(model):
        return _extract(model, shapes, layout)


def _extract(model: Model, shapes: Shapes | None, layout: str) -> Extraction:
    graph = model.graph
    skipped = [*_related(graph.nodes), *_nested(graph.nodes)]
    nodes = [node for node in graph.nodes if _is_layer(node)]
    if not nodes:
        others = f" that can be compiled (it has {_counts(skipped)})" if skipped else ""
        raise Error(f"{model.name}: a model without convolutions{others}")
    _require_values(model, nodes)
    inputs = input_shapes(model, shapes)
    wanted = [name for node in nodes for name in node.input[:2] if name and graph.constant(name) is None]
    known = infer_values(model, inputs, wanted)
    layers: list[Layer] = []
    taken: set[int] = set()
    # From the end, so that of two convolutions whose results are added the later one takes the sum: the other
    # one's result is there when it runs.
    for node in reversed(nodes):
        try:
            layers.append(_layer(model, node, known, layout, taken))
        except SpecError as error:
            if node.op_type in CONVOLUTIONS:
                raise
            name = node_name(node)
            skipped.append(Skipped(name, node.op_type, str(error).removeprefix(f"node {name}: ")))
    if not layers:
        raise Error(f"{model.name}: a model without convolutions that can be compiled ({skipped[0].reason})")
    return Extraction(model, tuple(_unique(layers[::-1])), tuple(skipped), inputs, layout)


def _is_layer(node: NodeProto) -> bool:
    return node.op_type in _ARGUMENTS and node.domain in ("", "ai.onnx")


def _layer(model: Model, node: NodeProto, known: Mapping[str, Value], layout: str, taken: set[int]) -> Layer:
    """The layer of a node. taken: ids of nodes that other layers have taken in; it is added to."""
    graph = model.graph
    if node.op_type in CONVOLUTIONS:
        quantised = dequantised_layer(graph, node, known, layout, taken)
        return quantised or conv_layer(graph, node, known, layout, taken)
    describe = {
        "ConvInteger": conv_integer_layer, "QLinearConv": qlinear_conv_layer, "DeformConv": deform_layer,
    }.get(node.op_type, pool_layer)  # fmt: skip
    return describe(graph, node, known, layout)


def _unique(layers: list[Layer]) -> list[Layer]:
    """Nodes need not have different names; layers do, for the manifest speaks of them by name."""
    seen: dict[str, int] = {}
    result = []
    for layer in layers:
        seen[layer.name] = seen.get(layer.name, 0) + 1
        again = seen[layer.name]
        result.append(layer if again == 1 else replace(layer, name=f"{layer.name}#{again}"))
    return result


def _require_values(model: Model, nodes: list[NodeProto]) -> None:
    """Raise Error for a node whose arguments nothing makes."""
    graph = model.graph
    made = {tensor.name for tensor in model.proto.graph.initializer} | set(model.inputs)
    for node in nodes:
        least, most = _ARGUMENTS[node.op_type]
        if not least <= len(node.input) <= most or not node.output:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise Error(
                f"{model.name}: node {node_name(node)}: {len(node.input)} inputs and "
                f"{len(node.output)} results, expected {wanted} inputs and a result"
            )
        for name in node.input:
            if name and name not in made and graph.producer(name) is None:
                raise Error(f"{model.name}: node {node_name(node)}: nothing makes its input {name!r}")


def _related(nodes: list[NodeProto]) -> list[Skipped]:
    return [
        Skipped(node_name(node), node.op_type, "this operator cannot be compiled")
        for node in nodes
        if node.op_type in _RELATED or (node.op_type in _ARGUMENTS and not _is_layer(node))
    ]


def _nested(nodes: list[NodeProto]) -> list[Skipped]:
    """Convolutions in the branches of If and the bodies of loops, which may run any number of times."""

    def inside(graph: GraphProto, outer: str) -> list[Skipped]:
        found = []
        for node in graph.node:
            if node.op_type in (*_ARGUMENTS, *_RELATED):
                found.append(Skipped(node_name(node), node.op_type, f"inside a graph of node {outer}"))
            for deeper in subgraphs(node):
                found += inside(deeper, outer)
        return found

    return [item for node in nodes for graph in subgraphs(node) for item in inside(graph, node_name(node))]


def _counts(skipped: list[Skipped]) -> str:
    kinds = [item.op_type for item in skipped]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
