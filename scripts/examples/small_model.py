"""Writes model.onnx, a small network for pictures with random weights, and a picture for it: x.npy, and x.bin
as plain float32. It stands in for your own model. With --external its weights are in a file, w.bin."""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

rng = np.random.default_rng(0)
nodes, weights = [], []


def weight(name: str, *shape: int) -> str:
    scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    weights.append(numpy_helper.from_array((rng.standard_normal(shape) * scale).astype(np.float32), name))
    return name


def conv(x: str, name: str, shape: tuple[int, ...], clipped: bool = True, **attributes: object) -> str:
    """A convolution with a bias; then ReLU6, as mobile networks have it."""
    inputs = [x, weight(f"{name}.weight", *shape), weight(f"{name}.bias", shape[0])]
    nodes.append(helper.make_node("Conv", inputs, [f"{name}.out"], name=f"/{name}/Conv", **attributes))
    if not clipped:
        return f"{name}.out"
    y = f"{name}.clip"
    nodes.append(helper.make_node("Clip", [f"{name}.out", "zero", "six"], [y], name=f"/{name}/Clip"))
    return y


weights += [numpy_helper.from_array(np.float32(value), name) for value, name in ((0, "zero"), (6, "six"))]
stem = conv("x", "stem", (16, 3, 3, 3), strides=[2, 2], pads=[1] * 4)
expand = conv(stem, "expand", (64, 16, 1, 1))
depthwise = conv(expand, "depthwise", (64, 1, 3, 3), pads=[1] * 4, group=64)
project = conv(depthwise, "project", (16, 64, 1, 1), clipped=False)
nodes += [
    helper.make_node("Add", [stem, project], ["sum"], name="/residual/Add"),
    helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], name="/pool/GlobalAveragePool"),
    helper.make_node("Flatten", ["pooled"], ["flat"], name="/flatten/Flatten"),
    helper.make_node("Gemm", ["flat", weight("head.weight", 10, 16), weight("head.bias", 10)], ["scores"],
                     name="/head/Gemm", transB=1),
    helper.make_node("Softmax", ["scores"], ["y"], name="/softmax/Softmax"),
]  # fmt: skip
graph = helper.make_graph(
    nodes, "small",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 64, 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
    weights,
)  # fmt: skip
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
external = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
onnx.save(model, "model.onnx", **external if "--external" in sys.argv else {})

row, column = np.mgrid[:64, :64] / 63
disc = (row - 0.5) ** 2 + (column - 0.5) ** 2 < 0.1
picture = np.stack([row, column, disc])[None].astype(np.float32)
np.save("x.npy", picture)
picture.tofile("x.bin")
