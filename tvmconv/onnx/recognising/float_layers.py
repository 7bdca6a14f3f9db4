"""Conv and ConvTranspose as layers: what follows is folded in, residual, activation and shuffle too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.attributes import conv_spec
from tvmconv.onnx.reading.graph import Graph, Value, node_name, value_of
from tvmconv.onnx.recognising.activations import match
from tvmconv.onnx.recognising.folding import affine_after, residual_after, shuffle_after
from tvmconv.onnx.recognising.layers import Layer, weights_in
from tvmconv.onnx.recognising.padding import pad_before
from tvmconv.onnx.recognising.transposed import transposed_spec
from tvmconv.specs.conv import ConvSpec

if TYPE_CHECKING:
    from onnx import NodeProto


def conv_layer(
    graph: Graph, node: NodeProto, known: Mapping[str, Value], layout: str, taken: set[int]
) -> Layer:
    """A Conv or ConvTranspose node as a layer. ``taken``: ids of nodes that are part of other layers; the
    addition that becomes this layer's residual is put there. Raises SpecError, which names the node."""
    x, w_value, bias_value = node.input[0], node.input[1], node.input[2] if len(node.input) > 2 else ""
    w, bias = graph.constant(w_value), graph.constant(bias_value) if bias_value else None
    x_shape, dtype = value_of(graph, known, x)
    w_shape = value_of(graph, known, w_value).shape
    before = transposed_spec if node.op_type == "ConvTranspose" else conv_spec
    spec = before(node, x_shape, w_shape, bias=bool(bias_value), dtype=dtype)
    pad = pad_before(graph, x, known)
    if pad is not None and pad.into(spec) is None:
        pad = None
    x = x if pad is None else pad.x

    def describe(*args: Any, **options: Any) -> ConvSpec:
        found = before(*args, **options)
        padded = None if pad is None else pad.into(found)  # it goes into every spec of the node, or into none
        return found if padded is None else padded

    if bias is not None and bias.shape != spec.bias_shape:
        raise SpecError(f"node {node_name(node)}: bias: shape {bias.shape}, expected {spec.bias_shape}")
    value, nodes, rank = node.output[0], [node], len(x_shape)
    inputs, activation, slopes, shuffle, activated = {"x": x}, None, None, 1, None
    constant = w is not None and (bias is not None or not bias_value)
    scale, shift = np.ones(spec.out_channels), np.zeros(spec.out_channels)
    if bias is not None:
        shift += bias
    folded = bias is not None
    while True:
        found = match(graph, value, spec.out_channels, rank) if activation is None else None
        if found is not None:
            activated = value
            nodes, value, activation = [*nodes, *found.nodes], found.value, found.activation
            slopes = None if found.slopes is None else _unshuffled(found.slopes, shuffle)
            continue
        if "residual" in inputs:  # what comes after the sum is no longer the convolution's
            break
        mixed = shuffle_after(graph, value, spec.output_shape, known) if shuffle == 1 else None
        if mixed is not None and not spec.transposed:
            nodes, value, shuffle = [*nodes, *mixed.nodes], mixed.value, mixed.groups
            activated = None  # its elements are in another order now
            continue
        if activation is not None:
            break
        step = affine_after(graph, value, spec.out_channels, rank) if constant else None
        if step is not None:
            factor, more = _unshuffled(step.scale, shuffle), _unshuffled(step.shift, shuffle)
            scale, shift = scale * factor, shift * factor + more
            nodes, value = [*nodes, step.node], step.value
            folded = folded or bool(np.any(step.shift != 0))
            continue
        added = residual_after(graph, value, spec.output_shape, known, taken)
        if added is None:
            break
        nodes, value, inputs["residual"] = [*nodes, added.node], added.value, added.other
        taken.add(id(added.node))
    spec = describe(
        node, x_shape, w_shape, bias=folded if constant else bool(bias_value), dtype=dtype,
        residual="residual" in inputs, activation=activation, shuffle=shuffle, layout=layout,
    )  # fmt: skip
    weights, computed = {}, {}
    if constant and w is not None:
        weights["w"] = weights_in(spec, _scaled(spec, w, scale))
        if folded:
            weights["bias"] = shift.astype(w.dtype)
    else:
        for name, array, source in (("w", w, w_value), ("bias", bias, bias_value)):
            if array is not None:
                weights[name] = weights_in(spec, array) if name == "w" else array
            elif source:
                computed[name] = source
    if slopes is not None:
        weights["slopes"] = slopes
    names = tuple(node_name(part) for part in (*(() if pad is None else pad.nodes), *nodes))
    return Layer(node_name(node), spec, names, inputs, value, weights, computed, activated)


def _unshuffled(values: np.ndarray, groups: int) -> np.ndarray:
    """Numbers for the channels of a shuffled result, () or one each, in the order of the weights."""
    return values.reshape(-1, groups).T.reshape(-1) if groups > 1 and values.ndim else values


def _scaled(spec: ConvSpec, w: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """ONNX's weights, those of each output channel times its scale."""
    taps = (1,) * spec.rank
    if not spec.transposed:
        return (w * scale.reshape(-1, 1, *taps)).astype(w.dtype)
    by_group = w.reshape(spec.groups, -1, *w.shape[1:]) * scale.reshape(spec.groups, 1, -1, *taps)
    return by_group.reshape(w.shape).astype(w.dtype)
