"""A layer as an ONNX model of one node, and of what follows it in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.bench.engines.layer_data import F32, Array, Layer, Unsupported
from tvmconv.specs.activations import ACTIVATIONS
from tvmconv.specs.kinds import Spec

if TYPE_CHECKING:
    from onnx import NodeProto

_OPSET = 17
Nodes = tuple[list["NodeProto"], dict[str, Array]]  # and constants of theirs beside the layer's arrays


def onnx_model(layer: Layer, *, channels_last: bool = False, dequantised: bool = False) -> bytes:
    """The layer as a model; weights are initialisers. Of a quantised layer: ``channels_last`` as onnxruntime
    has it inside, ``dequantised`` as a convolution between DequantizeLinear and QuantizeLinear."""
    from onnx import helper, numpy_helper

    spec = layer.spec
    if "bfloat16" in (spec.dtype, layer.out_dtype):
        raise Unsupported("bfloat16: no engine that reads ONNX has such a convolution")
    if layer.quantised and dequantised and layer.out_dtype != "int32":
        nodes, held = _dequantised(layer)
    elif layer.quantised:
        nodes, held = [_integers(layer, channels_last)], {}
    else:
        nodes, held = _FAMILIES[spec.family](layer)
    nodes[-1].output[0] = "y"
    held |= {name: array for name, array in layer.arrays.items() if name not in layer.inputs}
    read = {name for node in nodes for name in node.input}

    def ends(name: str, shape: tuple[int, ...], dtype: Any):
        shape = (shape[0], *shape[2:], shape[1]) if channels_last else shape
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)

    inputs = [ends(name, array.shape, array.dtype) for name, array in layer.inputs.items()]
    outputs = [ends("y", layer.expected.shape, layer.out_dtype)]
    weights = [numpy_helper.from_array(_scalar(n, a), n) for n, a in held.items() if n in read]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 19 if nodes[0].op_type == "DeformConv" else _OPSET)]
    opsets += [helper.make_opsetid("com.microsoft", 1)] * channels_last
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


def _scalar(name: str, array: Array) -> Array:
    """Scales and zero points of x and y as ONNX has them; zero points of w are equal, hence one number."""
    single = name[:2] in ("x_", "y_") or name == "w_zero_point"
    return array.reshape(-1)[0].reshape(()) if single else np.asarray(array)


def _geometry(spec: Spec) -> dict[str, Any]:
    pads = [lo for lo, _ in spec.padding] + [hi for _, hi in spec.padding]
    return {"kernel_shape": spec.kernel, "pads": pads, "strides": spec.stride, "dilations": spec.dilation}


def _pool(layer: Layer) -> Nodes:
    from onnx import helper

    spec: Any = layer.spec
    kind = "MaxPool" if spec.operation == "max" else "AveragePool"
    if spec.is_global:
        return [helper.make_node(f"Global{kind}", ["x"], ["y"])], {}
    options = {**_geometry(spec), "ceil_mode": int(spec.ceil_mode)}
    if spec.operation == "avg":
        if set(options.pop("dilations")) != {1}:
            raise Unsupported("a mean with dilation")
        options["count_include_pad"] = int(spec.count_include_pad)
    return [helper.make_node(kind, ["x"], ["y"], **options)], {}


def _deform(layer: Layer) -> Nodes:
    from onnx import helper

    names = ("x", "w", "offset", "bias", "mask")
    spec: Any = layer.spec
    options = {**_geometry(spec), "group": spec.groups, "offset_group": spec.offset_groups}
    given = [name if name in layer.arrays else "" for name in names]
    return [helper.make_node("DeformConv", given, ["y"], **options)], {}


def _integers(layer: Layer, channels_last: bool) -> NodeProto:
    from onnx import defs, helper

    spec: Any = layer.spec
    kind = "ConvInteger" if spec.out_dtype == "int32" else "QLinearConv"
    names = ["bias" if one.name == "B" else one.name for one in defs.get_schema(kind).inputs]
    options = {**_geometry(spec), "group": spec.groups}
    if channels_last:
        options |= {"domain": "com.microsoft", "channels_last": 1}
    return helper.make_node(kind, [name for name in names if name in layer.arrays], ["y"], **options)


def _dequantised(layer: Layer) -> Nodes:
    from onnx import helper

    def node(kind: str, inputs: list[str], output: str, **options: Any) -> NodeProto:
        return helper.make_node(kind, inputs, [output], **options)

    spec: Any = layer.spec
    arrays = layer.arrays
    held = {"zeros": np.zeros(spec.bias_shape, spec.weight_dtype) + arrays["w_zero_point"]}
    nodes = [
        node("DequantizeLinear", ["x", "x_scale", "x_zero_point"], "xf"),
        node("DequantizeLinear", ["w", "w_scale", "zeros"], "wf", axis=0),
    ]
    if layer.bias is not None:
        held["b_scale"] = arrays["x_scale"] * arrays["w_scale"]
        nodes.append(node("DequantizeLinear", ["bias", "b_scale"], "bf", axis=0))
    inputs = ["xf", "wf", "bf"][: len(nodes)]
    nodes.append(node("Conv", inputs, "c", **_geometry(spec), group=spec.groups))
    nodes.append(node("QuantizeLinear", ["c", "y_scale", "y_zero_point"], "y"))
    return nodes, held


def _convolution(layer: Layer) -> Nodes:
    from onnx import helper

    spec: Any = layer.spec
    options = {**_geometry(spec), "group": spec.groups}
    if spec.transposed:
        options["output_padding"] = spec.output_padding
    names = ["x", "w"] if layer.bias is None else ["x", "w", "bias"]
    nodes = [helper.make_node("ConvTranspose" if spec.transposed else "Conv", names, ["c"], **options)]
    if spec.residual:
        nodes.append(helper.make_node("Add", ["c", "residual"], ["s"]))
    after, held = _activation(layer, nodes[-1].output[0])
    return nodes + after, {key: value.astype(spec.dtype) for key, value in held.items()}


def _activation(layer: Layer, x: str) -> Nodes:
    """Of the value ``x``."""
    from onnx import helper

    if layer.activation is None:
        return [], {}
    name, params = layer.activation
    row = ACTIVATIONS[name]
    if row.onnx and _known(row.onnx):
        options: dict[str, Any] = dict(zip(row.attributes, params, strict=False))
        held = {} if options else {f"p{i}": np.asarray(F32(value)) for i, value in enumerate(params)}
        return [helper.make_node(row.onnx, [x, *held], ["y"], **options)], held
    if not row.spelled:
        raise Unsupported(f"activation {name}")
    nodes, held = [], {}
    for i, (kind, *operands) in enumerate(row.spelled):
        names = []
        for operand in operands:
            if isinstance(operand, float):
                names.append(f"c{len(held)}")
                held[names[-1]] = np.asarray(F32(operand))
            else:
                names.append(x if operand == "x" else f"a{operand}")
        nodes.append(helper.make_node(kind, names, [f"a{i}"]))
    return nodes, held


def _known(operator: str) -> bool:
    """Whether models as old as ours have it."""
    from onnx import defs

    try:
        return bool(defs.get_schema(operator, max_inclusive_version=_OPSET))
    except defs.SchemaError:
        return False


_FAMILIES = {"conv": _convolution, "deform": _deform, "pool": _pool}
