"""Convolutions of 8-bit integers as layers: ConvInteger and QLinearConv."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import BYTES
from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import INTEGER_INPUTS, QLINEAR_INPUTS, conv_spec
from tvmconv.onnx.reading.graph import Graph, Value, node_name, told_of, value_of
from tvmconv.onnx.recognising.layers import Layer, weights_in
from tvmconv.onnx.recognising.transposed import transposed_spec
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from onnx import NodeProto



def integer_spec(
    node: NodeProto, x: Value, w: Value, *, bias: bool, out_dtype: str, residual: bool = False,
    activation: str | None = None, layout: str = "NCHW",
) -> ConvSpec:  # fmt: skip
    """The spec of a convolution node, transposed or not, with 8-bit x and w. Raises SpecError, which names
    the node."""
    describe = transposed_spec if node.op_type == "ConvTranspose" else conv_spec
    spec = describe(node, x.shape, w.shape, bias=bias, dtype=x.dtype, residual=residual, layout=layout)
    with told_of(node):
        return replace(spec, out_dtype=out_dtype, weight_dtype=w.dtype, activation=activation)


def conv_integer_layer(graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str) -> Layer:
    """A ConvInteger node as a layer; raises SpecError for one that cannot be."""
    given = dict(zip(INTEGER_INPUTS, node.input, strict=False))
    return _layer(graph, node, known, layout, given, "int32")


def qlinear_conv_layer(graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str) -> Layer:
    """A QLinearConv node as a layer; raises SpecError for one that cannot be."""
    given = dict(zip(QLINEAR_INPUTS, node.input, strict=False))
    zero = given["y_zero_point"]
    if graph.constant(zero) is None and zero not in known:
        raise SpecError(f"y_zero_point: the type of {zero!r} is not known")
    return _layer(graph, node, known, layout, given, value_of(graph, known, zero).dtype)


def _layer(
    graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str, given: dict[str, str],
    out_dtype: str,
) -> Layer:  # fmt: skip
    """The layer of a node with these arguments, by the names that kernels have for them."""
    given = {name: value for name, value in given.items() if value}
    x, w = (value_of(graph, known, given[name]) for name in ("x", "w"))
    spec = integer_spec(node, x, w, bias="bias" in given, out_dtype=out_dtype, layout=layout)
    constants: dict[str, Any] = {}
    computed = {}
    for name, value in given.items():
        array = graph.constant(value)
        if name == "x":
            continue
        if array is None:
            computed[name] = value
        else:
            constants[name] = array
    weights = weights_of(spec, constants, computed)
    name = node_name(node)
    return Layer(name, spec, (name,), {"x": given["x"]}, node.output[0], weights, computed)


def weights_of(
    spec: ConvSpec, constants: Mapping[str, Any], computed: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Arguments of ``bind`` in call order, in the shapes and types of the kernel; what neither ``constants``
    nor ``computed`` has is a zero point of 0."""
    found: dict[str, np.ndarray] = {}
    if "w" in constants:
        found["w"] = weights_in(spec, constants["w"])
    if "bias" in constants:
        found["bias"] = constants["bias"]
    scaled = spec.out_dtype in BYTES
    kinds = {"x": spec.dtype, "w": spec.weight_dtype, "r": spec.out_dtype, "y": spec.out_dtype}
    for array in f"xw{'r' * spec.residual}y" if scaled else "xw":
        shape = spec.bias_shape if array == "w" else (1,)
        for part, dtype in (("scale", "float32"), ("zero_point", kinds[array])):
            name = f"{array}_{part}"
            if name in computed or (part == "scale" and not scaled):
                continue
            values = np.asarray(constants.get(name, 0))
            if values.size not in (1, shape[0]):
                raise SpecError(f"{name}: shape {values.shape}, expected one number or {shape[0]}")
            found[name] = np.array(np.broadcast_to(values.reshape(-1), shape).astype(dtype))
    return found
