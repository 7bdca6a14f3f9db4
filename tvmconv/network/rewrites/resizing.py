"""Pointwise convolutions of images that were made larger, and joined with others: computed before that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.rewrites.folding import floats_of, relayered
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Copy, Layer, Resize
from tvmconv.specs.operators.base import Type
from tvmconv.specs.operators.copy import joined

_ELEMENT = 16  # multiply-adds in the time that an element takes to be written and added


def convolutions_before_resizes(graph: Graph) -> Graph:
    """Where a pointwise convolution alone reads a concatenation of channels, and that alone a resized image,
    the channels of that image are convolved as they were, and what this makes is resized: the residual of
    the convolution of the others. Where enough pixels fewer are to convolve so."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        conv = floats_of(node)
        concat = None if conv is None else editor.producer(node.inputs[0])
        if conv is None or concat is None or not _is_plain(conv) or not _is_concat(concat, conv):
            continue
        for number, name in enumerate(map(editor.actual, concat.inputs)):
            resize = editor.producer(name)
            if resize is None or not _alone(editor, readers, concat, resize) or not _pays(resize, conv):
                continue
            if _given(node)["w"] in editor.constants:
                _split(editor, node, concat, resize, number)
                readers = editor.consumers()
                break
    return editor.graph()


def _is_plain(conv: ConvSpec) -> bool:
    once = {*conv.kernel, *conv.stride, conv.groups} == {1} and not any(map(any, conv.padding))
    return once and not conv.transposed and not conv.residual and conv.dtype in ("float32", "float64")


def _is_concat(node: Node, conv: ConvSpec) -> bool:
    op, axis = node.op, _axis(conv)
    if not isinstance(op, Copy) or len(op.inputs) < 2:
        return False
    others = {one.shape[:axis] + one.shape[axis + 1 :] for one in op.inputs}
    alike = others == {op.shape[:axis] + op.shape[axis + 1 :]}  # it may transpose some, or join other dims
    return alike and all(len(one.shape) > axis for one in op.inputs) and op == joined(op.inputs, axis)


def _axis(conv: ConvSpec) -> int:
    return len(conv.input_shape) - 1 if conv.channels_last else 1


def _given(layer: Node) -> Mapping[str, str]:
    assert isinstance(layer.op, Layer)
    return dict(zip(layer.op.arguments, layer.inputs, strict=True))


def _alone(editor: Editor, readers: Mapping[str, list[Node]], *nodes: Node) -> bool:
    """Whether one node reads what each of these makes, once."""
    return all(
        len(after := readers[node.output]) == 1 and not editor.is_output(node.output)
        and [*map(editor.actual, after[0].inputs)].count(node.output) == 1 for node in nodes
    )  # fmt: skip


def _pays(resize: Node, conv: ConvSpec) -> bool:
    op = resize.op
    if not isinstance(op, Resize) or op.coordinates == "tf_crop_and_resize":
        return False
    x, axis = op.inputs[0].shape, _axis(conv)
    if any(dim in (0, axis) for dim in op.axes):
        return False
    before, after = (prod(shape) // shape[axis] for shape in (x, op.shape))
    elements = after * max(2 * conv.out_channels - x[axis], 0)  # of residual and resized image, not of x
    return (after - before) * x[axis] * conv.out_channels > _ELEMENT * elements


def _split(editor: Editor, layer: Node, concat: Node, resize: Node, number: int) -> None:
    conv, given = floats_of(layer), _given(layer)
    assert conv is not None and isinstance(resize.op, Resize) and isinstance(concat.op, Copy)
    axis, types = _axis(conv), concat.op.inputs
    first = sum(one.shape[axis] for one in types[:number])
    own = slice(first, first + types[number].shape[axis])
    w, inputs = editor.constants[given["w"]], _inputs_axis(conv)
    parts = np.take(w, range(own.start, own.stop), inputs), np.delete(w, own, inputs)
    small, rest = (editor.constant(np.ascontiguousarray(part), given["w"]) for part in parts)

    x = resize.op.inputs[0]
    spec = replace(conv, input_shape=x.shape, bias=False, activation=None)
    made = relayered(editor, layer, spec, {"x": resize.inputs[0], "w": small}, (editor.fresh(layer.output),))
    editor.put(made)
    larger = replace(resize.op, inputs=(Type(spec.output_shape, x.dtype),), shape=conv.output_shape)
    residual = editor.new(larger, [made.output], layer.output, resize.source)

    names = [name for at, name in enumerate(concat.inputs) if at != number]
    others = [type_ for at, type_ in enumerate(types) if at != number]
    if len(names) > 1:
        names = [editor.new(joined(others, axis), names, concat.output, concat.source)]
    spec = replace(conv, input_shape=editor.types[names[0]].shape, residual=True)
    given = {**given, "x": names[0], "w": rest, "residual": residual}
    editor.remove(concat)
    editor.remove(resize)
    editor.put(relayered(editor, layer, spec, dict(given), layer.outputs))


def _inputs_axis(conv: ConvSpec) -> int:
    """The dim of weights that goes along the channels of x."""
    return len(conv.input_shape) - 2 if conv.channels_last else 1
