"""Small ONNX models for tests, written down as calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tvmconv.onnx.reading.session import random_feeds
from tvmconv.onnx.recognising.layers import Extraction, image_from
from tvmconv.onnx.using.agreement import arrays_of, arriving


class Net:
    """A graph in the making: each operator is a call that returns the name of its result."""

    def __init__(self, shape: tuple[Any, ...] = (1, 4, 9, 8), *, opset: int = 17, seed: int = 0) -> None:
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.functions: list[onnx.FunctionProto] = []
        self.domains: dict[str, int] = {}

    def const(self, value: Any, dtype: str = "float32", *, node: bool = False) -> str:
        """A constant: an initialiser, or a Constant node."""
        tensor = numpy_helper.from_array(np.asarray(value, dtype), f"c{len(self.weights)}_{len(self.nodes)}")
        if not node:
            self.weights.append(tensor)
            return tensor.name
        return self.op("Constant", value=tensor)

    def random(self, *shape: int, **options: Any) -> str:
        """A constant of standard normal numbers."""
        return self.const(self.rng.standard_normal(shape), **options)

    def op(self, op_type: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> str:
        """A node; the name of its first result."""
        number = len(self.nodes)
        results = [f"v{number}_{i}" for i in range(outputs)]
        node = helper.make_node(op_type, inputs, results, name or f"{op_type}_{number}", **attributes)
        self.nodes.append(node)
        return results[0]

    def conv(self, x: str, channels: int, out: int, kernel: tuple[int, ...] = (3, 3), *, bias: bool = False,
             node: bool = False, **attributes: Any) -> str:  # fmt: skip
        """A convolution with random weights (and bias)."""
        w = self.random(out, channels // attributes.get("group", 1), *kernel, node=node)
        inputs = (x, w, self.random(out, node=node)) if bias else (x, w)
        return self.op("Conv", *inputs, kernel_shape=kernel, **attributes)

    def batch_norm(self, x: str, channels: int, **attributes: Any) -> str:
        variance = self.const(self.rng.uniform(0.5, 2, channels))
        return self.op("BatchNormalization", x, *(self.random(channels) for _ in range(3)), variance,
                       **attributes)  # fmt: skip

    def model(self, *outputs: str) -> onnx.ModelProto:
        results = [onnx.ValueInfoProto(name=name) for name in outputs or self.nodes[-1].output[:1]]
        graph = helper.make_graph(self.nodes, "net", self.inputs, results, self.weights)
        versions = [helper.make_opsetid("", self.opset)]
        versions += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        return helper.make_model(graph, opset_imports=versions, ir_version=8, functions=self.functions)


def small_network(shape: tuple[Any, ...] = (1, 3, 17, 12)) -> onnx.ModelProto:
    """Every kind of convolution, with batch normalisation, bias and activations of several sorts."""
    net = Net(shape)
    y = net.conv("x", 3, 8, strides=[2, 2], pads=[1, 1, 1, 1])
    y = net.op("Relu", net.batch_norm(y, 8))
    skip = y
    y = net.conv(y, 8, 16, (1, 1), bias=True)
    y = net.op("Clip", y, net.const(0.0), net.const(6.0))
    y = net.conv(y, 16, 16, (5, 3), bias=True, group=16, auto_pad="SAME_UPPER")
    y = net.op("Mul", y, net.op("Sigmoid", y))
    y = net.op("Add", net.conv(y, 16, 8, (1, 1), bias=True), skip)
    y = net.conv(y, 8, 12, group=4, dilations=[2, 1], pads=[2, 1, 2, 1], node=True)
    y = net.op("Add", y, net.random(1, 12, 1, 1, node=True))
    y = net.op("Mul", y, net.op("HardSigmoid", y, alpha=1 / 6, beta=0.5))
    y = net.conv(y, 12, 24, group=12, pads=[1, 1, 1, 1])
    y = net.op("LeakyRelu", y, alpha=0.2)
    # The same convolution twice, with different weights.
    y = net.op("Relu", net.conv(y, 24, 24, (1, 1), bias=True))
    y = net.op("Relu", net.conv(y, 24, 24, (1, 1), bias=True))
    return net.model(net.op("GlobalAveragePool", y))


def check_layers(found: Extraction) -> None:
    """Each layer computes from the x that arrives at it the y that onnxruntime has there."""
    values = arriving(found, random_feeds(found.model, found.shapes))
    for layer in found.layers:
        y = image_from(layer.spec.layout, layer.spec.reference(arrays_of(layer, values)))
        expected = values[layer.y].astype(np.float64)
        error = np.max(np.abs(y - expected))
        steps = values[layer.y].dtype.kind in "iu"
        assert error <= (1 if steps else 1e-5 * (np.ptp(expected) + 1e-3)), layer.name


def branch(net: Net, name: str, out: int, *, after: str = "Relu") -> onnx.GraphProto:
    """x convolved, by weights of the branch's own, and an activation; both branches use the same names."""
    w = numpy_helper.from_array(net.rng.standard_normal((out, 4, 3, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["inner"], f"{name}_conv"),
        helper.make_node(after, ["inner"], ["result"], f"{name}_{after}"),
    ]
    return helper.make_graph(nodes, name, [], [onnx.ValueInfoProto(name="result")], [w])


def two_rates() -> Net:
    """A model that takes another network for another sampling rate, as silero's voice detector does."""
    net = Net()
    net.inputs.append(helper.make_tensor_value_info("sr", TensorProto.INT64, ()))
    which = net.op("Equal", "sr", net.const(16000, "int64"))
    branches = {"then_branch": branch(net, "fast", 6), "else_branch": branch(net, "slow", 8)}
    y = net.op("If", which, name="rate", **branches)
    net.op("Softmax", y, name="last")
    return net
