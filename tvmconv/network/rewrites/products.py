"""Products with constants as pointwise convolutions, transposes into products."""

from __future__ import annotations

import math

import numpy as np

from tvmconv.base.dtypes import FLOATS
from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Copy, Layer, Map, MatMul
from tvmconv.specs.operators.copy import permuted, reshaped


def products_as_layers(graph: Graph) -> Graph:
    """a times a constant matrix, plus a constant row if there is one, as a convolution of one tap: rows of a
    are its pixels, channels-last."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        if isinstance(node.op, MatMul):
            _as_layer(editor, node)
    return editor.graph()


def _as_layer(editor: Editor, node: Node) -> None:
    op = node.op
    assert isinstance(op, MatMul)
    names = [editor.actual(name) for name in node.inputs]
    a, weights = op.inputs[0], editor.constants.get(names[1])
    if weights is None or weights.ndim != 2 or a.dtype not in FLOATS or op.transpose_a or not a.size:
        return
    w = weights.T if op.transpose_b else weights
    inner, columns = w.shape
    rows = math.prod(a.shape[:-1])
    bias = editor.constants.get(names[2]) if len(names) > 2 else None
    fits = bias is not None and all(size == 1 for size in bias.shape[:-1])
    try:
        spec = ConvSpec((1, rows, inner), columns, 1, layout="NHWC", dtype=a.dtype, bias=fits)
    except SpecError:  # too large for a convolution
        return
    x = editor.new(reshaped(a, (1, rows, inner)), [names[0]], names[0], node.source)
    given = [x, editor.constant(np.ascontiguousarray(w.reshape(1, inner, columns)), names[1])]
    if fits:
        row = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (columns,)))
        given.append(editor.constant(row, names[2]))
    arguments = ("x", "w", "bias")[: len(given)]
    layer = Layer(tuple(editor.types[name] for name in given), spec, arguments)
    y = editor.new(layer, given, node.output, node.source)
    shape = op.infer()[0].shape
    wide = Node(reshaped(layer.infer()[0], shape), (y,), node.outputs, node.source)
    if len(names) > 2 and not fits:
        product = editor.new(wide.op, [y], node.output, node.source)
        types = (editor.types[product], editor.types[names[2]])
        wide = Node(Map(types, "add(a,b)"), (product, names[2]), node.outputs, node.source)
    editor.put(wide)


def transposes_into_products(graph: Graph) -> Graph:
    """A copy that swaps the last two dims of an input of a product, as the product's own flag."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        op, names = node.op, [editor.actual(name) for name in node.inputs]
        if not isinstance(op, MatMul):
            continue
        flags, types = [op.transpose_a, op.transpose_b], list(op.inputs)
        for number in range(2):
            before = editor.producer(names[number])
            if before is None or not isinstance(before.op, Copy) or len(before.inputs) != 1:
                continue
            rank = len(before.op.inputs[0].shape)
            if rank != len(types[number].shape) or rank < 2:
                continue
            if before.op == permuted(before.op.inputs[0], (*range(rank - 2), rank - 1, rank - 2)):
                names[number], types[number] = editor.actual(before.inputs[0]), before.op.inputs[0]
                flags[number] = not flags[number]
        if names != list(node.inputs):
            editor.put(Node(MatMul(tuple(types), *flags), tuple(names), node.outputs, node.source))
    return editor.graph()
