"""The convolutions of a model, each with what follows it folded in: bias, batch normalisation, activation."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.errors import Error, SpecError
from tvmconv.onnx.activations import match
from tvmconv.onnx.attributes import conv_spec
from tvmconv.onnx.folding import affine_after
from tvmconv.onnx.graph import Graph, node_name, subgraphs
from tvmconv.onnx.model import Model, Shapes, Source, damage_told, load
from tvmconv.onnx.shapes import Dims, infer_shapes, input_shapes
from tvmconv.onnx.transposed import transposed_spec
from tvmconv.spec import ConvSpec

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

CONVOLUTIONS = ("Conv", "ConvTranspose")
"""Operators that become layers."""

_RELATED = ("ConvInteger", "QLinearConv", "DeformConv", "FusedConv", "NhwcFusedConv")
"""Operators that a user would look for in the result: told as skipped."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One convolution of a model.

    name: of its node. nodes: the node and those folded into it, in order. x, y: the values of the graph that
    it reads and makes, both in ONNX's channels-first layout whatever ``spec.layout`` is. w, bias: arrays of
    ``spec.weight_shape`` and ``spec.bias_shape`` with everything folded in; None where the graph computes
    them, and then ``w_value`` and ``bias_value`` name the graph's values (channels-first).
    """

    name: str
    spec: ConvSpec
    nodes: tuple[str, ...]
    x: str
    y: str
    w: np.ndarray | None
    bias: np.ndarray | None
    w_value: str
    bias_value: str

    @cached_property
    def weights_digest(self) -> str:
        """SHA-256 of the weights and the bias; layers with the same spec and digest are one function."""
        digest = hashlib.sha256()
        for array in (self.w, self.bias):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def constant(self) -> bool:
        """Whether weights and bias are known ahead of time."""
        return self.w is not None and (self.bias is not None) == self.spec.bias


@dataclass(frozen=True)
class Skipped:
    """A convolution that is not among the layers, and why."""

    name: str
    op_type: str
    reason: str


@dataclass(frozen=True, eq=False)
class Extraction:
    """The convolutions of a model for given input shapes.

    layers: in the graph's order. shapes: of all inputs. layout: of the specs.
    """

    model: Model
    layers: tuple[Layer, ...]
    skipped: tuple[Skipped, ...]
    shapes: dict[str, Dims]
    layout: str


def extract(source: Source | Model, shapes: Shapes | None = None, *, layout: str = "NCHW") -> Extraction:
    """Every convolution of a model (a path, a file's bytes, or a ModelProto) as a layer.

    shapes: of inputs with dynamic dimensions, by the input's name; or sizes by the dimension's name. layout:
    "NCHW", or "NHWC" for kernels and weights that are channels-last.
    Raises Error for a model that cannot be used or has no convolution, SpecError for shapes that do not fit.
    """
    if layout not in ("NCHW", "NHWC"):
        raise SpecError(f"layout: {layout!r}, expected 'NCHW' or 'NHWC'")
    model = load(source)
    with damage_told(model):
        return _extract(model, shapes, layout)


def _extract(model: Model, shapes: Shapes | None, layout: str) -> Extraction:
    graph = model.graph
    skipped = [*_related(graph.nodes), *_nested(graph.nodes)]
    nodes = [node for node in graph.nodes if _is_convolution(node)]
    if not nodes:
        others = f" that can be compiled (it has {_counts(skipped)})" if skipped else ""
        raise Error(f"{model.name}: a model without convolutions{others}")
    _require_values(model, nodes)
    inputs = input_shapes(model, shapes)
    wanted = [name for node in nodes for name in node.input[:2] if graph.constant(name) is None]
    known = infer_shapes(model, inputs, wanted)
    layers = [_layer(graph, node, known, layout) for node in nodes]
    return Extraction(model, tuple(_unique(layers)), tuple(skipped), inputs, layout)


def _is_convolution(node: NodeProto) -> bool:
    return node.op_type in CONVOLUTIONS and node.domain in ("", "ai.onnx")


def _layer(graph: Graph, node: NodeProto, known: Mapping[str, Dims], layout: str) -> Layer:
    x, w_value, bias_value = node.input[0], node.input[1], node.input[2] if len(node.input) > 2 else ""
    w, bias = graph.constant(w_value), graph.constant(bias_value) if bias_value else None
    x_array = graph.constant(x)
    x_shape = known[x] if x_array is None else x_array.shape
    w_shape = known[w_value] if w is None else w.shape
    dtype = "float32" if w is None else w.dtype.name
    describe = transposed_spec if node.op_type == "ConvTranspose" else conv_spec
    spec = describe(node, x_shape, w_shape, bias=bool(bias_value), dtype=dtype)
    if bias is not None and bias.shape != spec.bias_shape:
        raise SpecError(f"node {node_name(node)}: bias: shape {bias.shape}, expected {spec.bias_shape}")
    value, nodes, activation = node.output[0], [node], None
    constant = w is not None and (bias is not None or not bias_value)
    scale, shift = np.ones(spec.out_channels), np.zeros(spec.out_channels)
    if bias is not None:
        shift += bias
    folded = bias is not None
    while True:
        found = match(graph, value, len(x_shape))
        if found is not None:
            nodes, value, activation = [*nodes, *found.nodes], found.value, found.activation
            break
        step = affine_after(graph, value, spec.out_channels, len(x_shape)) if constant else None
        if step is None:
            break
        scale, shift = scale * step.scale, shift * step.scale + step.shift
        nodes, value = [*nodes, step.node], step.value
        folded = folded or bool(np.any(step.shift != 0))
    if constant:
        w = _scaled(spec, w, scale)
        bias = shift.astype(w.dtype) if folded else None
    has_bias = folded if constant else bool(bias_value)
    spec = describe(node, x_shape, w_shape, bias=has_bias, dtype=dtype, activation=activation, layout=layout)
    if w is not None:
        w = np.ascontiguousarray(weights_in(spec, w))
    names = tuple(node_name(part) for part in nodes)
    return Layer(names[0], spec, names, x, value, w, bias, w_value, bias_value)


def _scaled(spec: ConvSpec, w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """ONNX's weights, those of each output channel times its scale."""
    taps = (1,) * spec.rank
    if not spec.transposed:
        return (w * scale.reshape(-1, 1, *taps)).astype(w.dtype)
    by_group = w.reshape(spec.groups, -1, *w.shape[1:]) * scale.reshape(spec.groups, 1, -1, *taps)
    return by_group.reshape(w.shape).astype(w.dtype)


def weights_in(spec: ConvSpec, w: np.ndarray) -> np.ndarray:
    """ONNX's weights, (O, I, *kernel) or transposed (I, O, *kernel), as ``spec`` has them.

    That is (*kernel, I, O) for NHWC.
    """
    if not spec.channels_last:
        return w
    return w.transpose(*range(2, w.ndim), *((0, 1) if spec.transposed else (1, 0)))


def image_in(layout: str, x: np.ndarray) -> np.ndarray:
    """ONNX's (N, C, *spatial) array as kernels of `layout` take it: (N, *spatial, C) for NHWC; contiguous."""
    return np.ascontiguousarray(np.moveaxis(x, 1, -1) if layout == "NHWC" else x)


def image_from(layout: str, y: np.ndarray) -> np.ndarray:
    """The reverse of `image_in` (a view)."""
    return np.moveaxis(y, -1, 1) if layout == "NHWC" else y


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
    """Raise Error for a convolution whose arguments nothing makes."""
    graph = model.graph
    made = {tensor.name for tensor in model.proto.graph.initializer} | set(model.inputs)
    for node in nodes:
        if not 2 <= len(node.input) <= 3 or len(node.output) != 1:
            raise Error(
                f"{model.name}: node {node_name(node)}: expected x, w and maybe a bias, and one result"
            )
        for name in node.input:
            if name and name not in made and graph.producer(name) is None:
                raise Error(f"{model.name}: node {node_name(node)}: nothing makes its input {name!r}")


def _related(nodes: list[NodeProto]) -> list[Skipped]:
    return [
        Skipped(node_name(node), node.op_type, "this operator cannot be compiled yet")
        for node in nodes
        if node.op_type in _RELATED or (node.op_type in CONVOLUTIONS and not _is_convolution(node))
    ]


def _nested(nodes: list[NodeProto]) -> list[Skipped]:
    """Convolutions in the branches of If and the bodies of loops, which may run any number of times."""

    def inside(graph: GraphProto, outer: str) -> list[Skipped]:
        found = []
        for node in graph.node:
            if node.op_type in (*CONVOLUTIONS, *_RELATED):
                found.append(Skipped(node_name(node), node.op_type, f"inside a graph of node {outer}"))
            for deeper in subgraphs(node):
                found += inside(deeper, outer)
        return found

    return [item for node in nodes for graph in subgraphs(node) for item in inside(graph, node_name(node))]


def _counts(skipped: list[Skipped]) -> str:
    kinds = [item.op_type for item in skipped]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
