"""QLinearConv written out as what it means. onnxruntime's own kernel for it saturates its sums of uint8 by
int8 on x86 CPUs without VNNI, and cannot be the judge there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from tvmconv.onnx.reading.attributes import QLINEAR_INPUTS
from tvmconv.onnx.reading.graph import Graph

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto


def without_saturation(proto: ModelProto, graph: Graph) -> ModelProto:
    """A copy of a model in which every QLinearConv with constant weights is a dequantisation, a convolution
    of floats and a quantisation; ``graph`` is the model's."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    for number, node in enumerate(proto.graph.node):
        nodes, weights = _written_out(node, graph, f"{number}_{node.output[0]}" if node.output else "")
        copy.graph.node.extend(nodes)
        copy.graph.initializer.extend(weights)
    return copy


def _written_out(node: NodeProto, graph: Graph, name: str) -> tuple[list[NodeProto], list[TensorProto]]:
    from onnx import helper, numpy_helper

    given = dict(zip(QLINEAR_INPUTS, node.input, strict=False))
    if node.op_type != "QLinearConv" or node.domain not in ("", "ai.onnx"):
        return [node], []
    arrays = {n: graph.constant(v) for n, v in given.items() if n in ("w", "bias") or n[2:] == "scale"}
    zero_point = graph.constant(given["w_zero_point"])
    if zero_point is None or any(array is None for array in arrays.values()):
        return [node], []
    each = (-1, *(1,) * (arrays["w"].ndim - 1))
    scale = arrays["w_scale"].astype(np.float64)
    w = (arrays["w"].astype(np.float64) - zero_point.reshape(each)) * scale.reshape(each)
    weights = {f"{name}_w": w.astype(np.float32)}
    if "bias" in arrays:
        bias = arrays["bias"] * (arrays["x_scale"].reshape(-1) * scale.reshape(-1))
        weights[f"{name}_bias"] = bias.astype(np.float32)
    conv = helper.make_node("Conv", [f"{name}_x", *weights], [f"{name}_y"])
    conv.attribute.extend(node.attribute)
    nodes = [
        helper.make_node("DequantizeLinear", node.input[:3], [f"{name}_x"]),
        conv,
        helper.make_node("QuantizeLinear", [f"{name}_y", *node.input[6:8]], node.output),
    ]
    return nodes, [numpy_helper.from_array(array, key) for key, array in weights.items()]
