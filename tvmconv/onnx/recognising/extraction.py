"""The convolutions and poolings of a model as layers, each with what can be folded into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from tvmconv.base.errors import Error, SpecError
from tvmconv.onnx.reading.branches import Fixed, specialised, stated
from tvmconv.onnx.reading.graph import Value, is_standard, node_name
from tvmconv.onnx.reading.model import Model, Shapes, Source, damage_told, load
from tvmconv.onnx.reading.shapes import Dims, infer_values
from tvmconv.onnx.recognising.blocks import joined
from tvmconv.onnx.recognising.deformable import deform_layer
from tvmconv.onnx.recognising.dequantised import dequantised_layer
from tvmconv.onnx.recognising.float_layers import conv_layer
from tvmconv.onnx.recognising.integer_layers import conv_integer_layer, qlinear_conv_layer
from tvmconv.onnx.recognising.layers import Extraction, Layer, Skipped
from tvmconv.onnx.recognising.pooling import REDUCTIONS, pool_layer, reduces_image, reduction_layer
from tvmconv.onnx.recognising.rest import counts, left_over, nested

if TYPE_CHECKING:
    from onnx import NodeProto

CONVOLUTIONS = ("Conv", "ConvTranspose")

_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool")
_ARGUMENTS = {
    "Conv": (2, 3), "ConvTranspose": (2, 3), "ConvInteger": (2, 4), "QLinearConv": (8, 9),
    "DeformConv": (3, 5), **dict.fromkeys(_POOLS, (1, 1)),
}  # fmt: skip
"""Operators that become layers: how many inputs they have at least and at most."""

_RELATED = ("FusedConv", "NhwcFusedConv")
"""Operators that a user would look for in the result: reported as skipped."""

_LAYOUTS = {"AUTO": "NCHW", "NCHW": "NCHW", "NHWC": "NHWC"}

def extract(
    source: Source | Model, shapes: Shapes | None = None, *, fixed: Fixed | None = None,
    layout: str = "auto", blocks: bool = False,
) -> Extraction:  # fmt: skip
    """Every convolution and pooling of a model (a path, a file's bytes, or a ModelProto) as a layer.

    shapes: of inputs with dynamic dimensions, by the input's name; or sizes by the dimension's name. fixed:
    values of inputs that will always be the same, by name: the branch that an If takes for them replaces it.
    layout: of what kernels take and give. "auto" is the model's own, "NCHW": kernels change it inside where
    that pays. "NHWC" is for kernels and weights that are channels-last (deformable ones have no such
    kernels). blocks: pointwise and depthwise convolutions of floats in a row are one layer, a block; of NHWC
    only. Raises Error for a model that cannot be used or has no layer, SpecError for shapes and values
    that do not fit.
    """
    own = _LAYOUTS.get(str(layout).upper())
    if own is None:
        raise SpecError(f"layout: {layout!r}, expected 'auto', 'NCHW' or 'NHWC'")
    if blocks and own != "NHWC":
        raise SpecError(f"layout: {layout!r}, expected 'NHWC' with blocks, which have no other")
    model = load(source)
    with damage_told(model):
        fixed = stated(model, fixed, shapes)
        special, inputs = specialised(model, shapes, fixed)
        return _extract(special, inputs, fixed, own, blocks)


def _extract(
    model: Model, inputs: dict[str, Dims], fixed: Fixed, layout: str, blocks: bool
) -> Extraction:
    graph = model.graph
    layers, skipped = find_layers(model, inputs, layout)
    if not layers:
        raise Error(f"{model.name}: a model without convolutions{_why(skipped, model)}")
    layers = joined(graph, layers) if blocks else layers
    rest = left_over(graph, layers, {*_ARGUMENTS, *_RELATED})
    return Extraction(model, tuple(layers), tuple(skipped), inputs, layout, dict(fixed), tuple(rest), blocks)


def find_layers(
    model: Model, inputs: Mapping[str, Dims], layout: str
) -> tuple[list[Layer], list[Skipped]]:
    """(the layers of a model, in its order, the nodes that could not be made one); maybe none of either.

    inputs: shapes of all inputs. Raises SpecError for a convolution that cannot be a layer.
    """
    graph = model.graph
    skipped = [
        *(item for item in map(_related, graph.nodes) if item),
        *nested(graph.nodes, {*_ARGUMENTS, *_RELATED}),
    ]
    nodes = [node for node in graph.nodes if _is_layer(node)]
    reductions = [node for node in graph.nodes if is_standard(node) and node.op_type in REDUCTIONS]
    if not nodes and not reductions:
        return [], skipped
    _require_values(model, nodes)
    wanted = [name for node in nodes for name in node.input[:2] if name and graph.constant(name) is None]
    known = infer_values(model, inputs, wanted)
    pooled = {id(node) for node in reductions if reduces_image(graph, node, known)}
    chosen = {id(node) for node in nodes} | pooled
    layers: list[Layer] = []
    taken: set[int] = set()
    # From the end, so that of two convolutions whose results are added the later one takes the sum: the other
    # one's result is there when it runs.
    for node in reversed([node for node in graph.nodes if id(node) in chosen]):
        try:
            layers.append(_layer(model, node, known, layout, taken))
        except SpecError as error:
            if node.op_type in CONVOLUTIONS:
                raise
            name = node_name(node)
            skipped.append(Skipped(name, node.op_type, str(error).removeprefix(f"node {name}: ")))
    return _unique(layers[::-1]), skipped


def _is_layer(node: NodeProto) -> bool:
    return node.op_type in _ARGUMENTS and is_standard(node)


def _related(node: NodeProto) -> Skipped | None:
    if node.op_type in _RELATED or (node.op_type in _ARGUMENTS and not is_standard(node)):
        return Skipped(node_name(node), node.op_type, "this operator cannot be compiled")
    return None


def _why(skipped: list[Skipped], model: Model) -> str:
    """What a model without layers has instead, and what can be done about it."""
    if not skipped:
        return ""
    inside = [item for item in skipped if item.inside]
    if not inside:
        return f" that can be compiled (it has {counts(skipped)}: {skipped[0].reason})"
    where = f"it has {counts(inside)} inside {inside[0].inside}"
    way = ""
    if inside[0].inside.startswith("If "):
        way = f"; its branch is used where the condition is constant: fix one of {', '.join(model.inputs)}"
    return f" outside of graphs inside its nodes ({where}{way})"


def _layer(model: Model, node: NodeProto, known: Mapping[str, Value], layout: str, taken: set[int]) -> Layer:
    """The layer of a node. taken: ids of nodes that other layers have taken in; it is added to."""
    graph = model.graph
    if node.op_type in CONVOLUTIONS:
        quantised = dequantised_layer(graph, node, known, layout, taken)
        return quantised or conv_layer(graph, node, known, layout, taken)
    describe = {
        "ConvInteger": conv_integer_layer, "QLinearConv": qlinear_conv_layer, "DeformConv": deform_layer,
        **dict.fromkeys(REDUCTIONS, reduction_layer),
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
