"""One layer as data, as an ONNX model and as a TFLite model: what the engines are given."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tvmconv.reference import conv_reference
from tvmconv.spec import ConvSpec, parse_activation

F32 = np.float32
RELU = (0.0, float("inf"))


class Unsupported(Exception):
    """This engine, or this way of using it, cannot run the layer; the message says why."""


@dataclass(frozen=True)
class Layer:
    """One layer and its data, channels-first float32; `expected` is the float64 reference's output.

    w is O I spatial, of a transposed convolution I O spatial."""

    spec: ConvSpec
    x: np.ndarray
    w: np.ndarray
    bias: np.ndarray | None
    expected: np.ndarray

    @property
    def clamp(self) -> tuple[float, float] | None:
        """Bounds of the activation, which has to be one that every engine can fuse; None if there is none."""
        if self.spec.activation is None:
            return None
        name, params = parse_activation(self.spec.activation)
        bounds = {"relu": RELU, "relu6": (0.0, 6.0), "clip": tuple(params)}
        if name not in bounds:
            raise Unsupported(f"activation {name}: this benchmark compares relu, relu6 and clip only")
        return bounds[name]

    def padded(self, keep: bool) -> tuple[np.ndarray, list[int]]:
        """x with the padding put in that an engine cannot express, and what is left per dimension.

        `keep` leaves the symmetric part of the padding to the engine; otherwise nothing is left."""
        if self.spec.transposed and any(lo != hi for lo, hi in self.spec.padding):
            raise Unsupported("a crop that is not the same on both sides")
        left = [min(pair) if keep else 0 for pair in self.spec.padding]
        extra = [(lo - n, hi - n) for (lo, hi), n in zip(self.spec.padding, left, strict=True)]
        return np.ascontiguousarray(np.pad(self.x, [(0, 0), (0, 0), *extra])), left


def example(spec: ConvSpec) -> Layer:
    """Random data for a layer, outputs of about unit size, and the float64 result."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal(spec.input_shape, np.float32)
    fan_in = spec.macs / np.prod(spec.output_shape)
    w = rng.standard_normal(spec.weight_shape, np.float32) / np.float32(fan_in**0.5)
    bias = rng.standard_normal(spec.bias_shape, np.float32) if spec.bias else None
    y = conv_reference(spec, x, w, bias)
    if spec.channels_last:
        x, y, w = first(x), first(y), np.moveaxis(w, weight_axes(spec), (0, 1))
    return Layer(spec, *map(np.ascontiguousarray, (x, w)), bias, np.ascontiguousarray(y))


def weight_axes(spec: ConvSpec) -> tuple[int, int]:
    """Where the channels-last weights have what the channels-first ones begin with."""
    return (-2, -1) if spec.transposed else (-1, -2)


def last(a: np.ndarray) -> np.ndarray:
    """Channels-first to channels-last, contiguous."""
    return np.ascontiguousarray(np.moveaxis(a, 1, -1))


def first(a: np.ndarray) -> np.ndarray:
    """Channels-last to channels-first (a view)."""
    return np.moveaxis(a, -1, 1)


def onnx_model(layer: Layer) -> bytes:
    """A model of one Conv or ConvTranspose, with a Relu or Clip behind it if the layer clamps; weights are
    initialisers."""
    from onnx import TensorProto, helper, numpy_helper

    spec, clamp = layer.spec, layer.clamp
    held = {"w": layer.w} if layer.bias is None else {"w": layer.w, "b": layer.bias}
    pads = [lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding]
    geometry = {"pads": pads, "strides": spec.stride, "dilations": spec.dilation, "group": spec.groups}
    if spec.transposed:
        geometry["output_padding"] = spec.output_padding
    kind = "ConvTranspose" if spec.transposed else "Conv"
    nodes = [helper.make_node(kind, ["x", *held], ["y" if clamp is None else "c"], **geometry)]
    if clamp == RELU:
        nodes.append(helper.make_node("Relu", ["c"], ["y"]))
    elif clamp is not None:
        held |= {"lo": F32(clamp[0]), "hi": F32(clamp[1])}
        nodes.append(helper.make_node("Clip", ["c", "lo", "hi"], ["y"]))
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, data.shape)
        for name, data in (("x", layer.x), ("y", layer.expected))
    )
    weights = [numpy_helper.from_array(value, name) for name, value in held.items()]
    graph = helper.make_graph(nodes, "layer", [x], [y], weights)
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def resolved(spec: ConvSpec, padding: str) -> ConvSpec:
    """The same layer with a named padding."""
    return ConvSpec(
        spec.input_shape, spec.out_channels, spec.kernel, stride=spec.stride, padding=padding,
        dilation=spec.dilation, groups=spec.groups, layout=spec.layout, bias=spec.bias,
        activation=spec.activation,
    )  # fmt: skip


def tflite_model(layer: Layer) -> tuple[bytes, np.ndarray]:
    """A .tflite of one CONV_2D or DEPTHWISE_CONV_2D, activation fused, and its NHWC input.

    TFLite knows SAME and VALID: any other padding is put into the input beforehand."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as tf

    spec, clamp = layer.spec, layer.clamp
    names = {None: "NONE", RELU: "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}
    if clamp not in names:
        raise Unsupported(f"TFLite has no fused clamp to {clamp}")
    same = spec.padding == resolved(spec, "SAME").padding
    x = last(layer.x if same else layer.padded(keep=False)[0])
    model, graph = tf.ModelT(), tf.SubGraphT()
    model.version, model.buffers, model.subgraphs, graph.tensors = 3, [tf.BufferT()], [graph], []

    def tensor(name: str, shape: tuple[int, ...], data: np.ndarray | None = None) -> int:
        held, made = tf.BufferT(), tf.TensorT()
        if data is not None:
            held.data = np.ascontiguousarray(data).view(np.uint8).ravel()
        made.name, made.shape, made.type = name, list(shape), tf.TensorType.FLOAT32
        made.buffer = len(model.buffers)
        model.buffers.append(held)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    # CONV_2D wants OHWI; DEPTHWISE_CONV_2D 1HWO, output channel c·multiplier + m, which is OIHW's own order.
    if spec.kind == "depthwise":
        kind, options, w = "DEPTHWISE_CONV_2D", tf.DepthwiseConv2DOptionsT(), layer.w.transpose(1, 2, 3, 0)
        options.depthMultiplier = spec.multiplier
    else:
        kind, options, w = "CONV_2D", tf.Conv2DOptionsT(), layer.w.transpose(0, 2, 3, 1)
    bias = np.zeros(spec.out_channels, F32) if layer.bias is None else layer.bias  # not optional here
    options.padding = tf.Padding.SAME if same else tf.Padding.VALID
    options.strideH, options.strideW = spec.stride
    options.dilationHFactor, options.dilationWFactor = spec.dilation
    options.fusedActivationFunction = getattr(tf.ActivationFunctionType, names[clamp])
    code, op = tf.OperatorCodeT(), tf.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(tf.BuiltinOperator, kind)
    code.version, model.operatorCodes, graph.operators = 1, [code], [op]
    op.builtinOptionsType = getattr(tf.BuiltinOptions, type(options).__name__.removesuffix("T"))
    op.builtinOptions, op.opcodeIndex = options, 0
    op.inputs = [tensor("x", x.shape), tensor("w", w.shape, w), tensor("b", bias.shape, bias)]
    op.outputs = [tensor("y", (spec.batch, *spec.out_spatial, spec.out_channels))]
    graph.inputs, graph.outputs = op.inputs[:1], op.outputs
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output()), x
