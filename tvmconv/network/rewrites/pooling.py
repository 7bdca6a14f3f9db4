"""Means of windows moved before pointwise convolutions: both are linear, and there is less to convolve."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tvmconv.network.graph import Editor, Graph
from tvmconv.network.rewrites.folding import floats_of, relayered
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Layer
from tvmconv.specs.operators.base import Type
from tvmconv.specs.pooling import PoolSpec

_ELEMENT = 16  # multiply-adds in the time that a pooling takes for an element of a window


def means_before_convolutions(graph: Graph) -> Graph:
    """A mean of windows that alone reads a pointwise convolution is taken of what that reads, where it leaves
    so much fewer pixels to convolve that this is faster."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        pool: Any = node.op.spec if isinstance(node.op, Layer) else None
        layer = None if pool is None or pool.family != "pool" else editor.producer(node.inputs[0])
        conv = None if layer is None else floats_of(layer)
        if layer is None or conv is None or len(readers[layer.output]) > 1 or editor.is_output(layer.output):
            continue
        if _commutes(conv, pool) and _pays(conv, pool):
            assert isinstance(layer.op, Layer)
            pool = replace(pool, input_shape=conv.input_shape)
            conv = replace(conv, input_shape=pool.output_shape)
            x = editor.actual(layer.inputs[0])
            mean = editor.new(Layer((Type(pool.input_shape, pool.dtype),), pool, ("x",)), [x], x, node.source)
            given = {**dict(zip(layer.op.arguments, layer.inputs, strict=True)), "x": mean}
            editor.remove(layer)
            editor.put(relayered(editor, layer, conv, given, node.outputs))
    return editor.graph()


def _commutes(conv: ConvSpec, pool: PoolSpec) -> bool:
    """Whether the mean of a convolution's results is the convolution's result for the mean."""
    linear = pool.operation == "avg" and conv.activation is None and not conv.residual
    plain = {*conv.kernel, *conv.stride} == {1} and not any(map(any, conv.padding)) and not conv.transposed
    inside = not any(map(any, pool.padding))  # zeros around the image have no bias
    return linear and plain and (inside or not conv.bias)


def _pays(conv: ConvSpec, pool: PoolSpec) -> bool:
    before, after = math.prod(pool.in_spatial), math.prod(pool.out_spatial)
    spared = (before - after) * conv.in_channels * conv.out_channels // conv.groups
    return spared > _ELEMENT * after * pool.taps * (conv.in_channels - conv.out_channels)
