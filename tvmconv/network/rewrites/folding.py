"""What stands before and after layers put into them: sums and products of channels into weights, sums with
values of their shape as residuals, activations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.rewrites.algebra import activation_of, affine, innermost
from tvmconv.network.rewrites.maps import map_of
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Layer, Map
from tvmconv.specs.operators import expression as ex
from tvmconv.specs.operators.base import Array, Type
from tvmconv.specs.reference.floats import shuffled_channels

_ARITHMETIC = ("add", "sub", "mul", "div", "neg")


def folded_after(graph: Graph) -> Graph:
    """A map that alone reads a convolution becomes part of it: scale and shift of its channels, or a
    residual, then an activation."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        for number, name in enumerate(node.inputs if isinstance(node.op, Map) else ()):
            layer = editor.producer(name)
            alone = len(readers.get(editor.actual(name), ())) == 1 and not editor.is_output(name)
            if layer is None or not alone or not _is_open(layer):
                continue
            made = _after(editor, layer, node, number)
            if made is not None:
                editor.remove(layer)
                editor.put(made)
                readers = editor.consumers()
                break
    return editor.graph()


def floats_of(node: Node) -> ConvSpec | None:
    """The spec of a node that is a convolution of floats."""
    spec: Any = node.op.spec if isinstance(node.op, Layer) else None
    return spec if spec is not None and spec.family == "conv" and not spec.is_integer else None


def _is_open(node: Node) -> bool:
    """Whether a node is a convolution of floats that has no activation yet."""
    spec = floats_of(node)
    return spec is not None and spec.activation is None


def _after(editor: Editor, layer: Node, node: Node, number: int) -> Node | None:
    """The layer with the map ``node`` in it; ``number`` says which of its inputs the layer makes."""
    spec = floats_of(layer)
    assert spec is not None and isinstance(node.op, Map)
    tree = node.op.tree
    if node.op.infer()[0] != layer.op.infer()[0]:
        return None
    activation = None
    whole = activation_of(_as_first(tree, number)) if len(node.inputs) == 1 else None
    if whole is not None:
        return _changed(editor, layer, node, activation=whole)
    if tree[0] not in _ARITHMETIC and tree[1:] and tree[1][0] not in ("input", "number"):
        activation = activation_of((tree[0], ("input", 0), *tree[2:]))
        if activation is None:
            return None
        tree = tree[1]
    names = [editor.actual(name) for name in node.inputs]
    constants = [editor.constants.get(name) for name in names]
    residual = None
    for mine, other in (tree[1:], tree[:0:-1]) if tree[0] == "add" else ():
        if other[0] == "input" and other[1] != number and constants[other[1]] is None:
            residual, tree = names[other[1]], mine
            break
    y = layer.op.infer()[0]
    if residual is not None and (spec.residual or residual == layer.output or editor.types[residual] != y):
        return None
    line = affine(tree, number, constants)
    pair = [_by_channel(spec, part, y.shape) for part in line or ()]
    if line is None or any(part is None for part in pair):
        return None
    if not (np.all(pair[0] == 1) and not np.any(pair[1])):
        if spec.residual or not _has_constants(editor, layer):
            return None
        return _changed(editor, layer, node, *pair, residual=residual, activation=activation)
    return _changed(editor, layer, node, residual=residual, activation=activation)


def _as_first(tree: ex.Expression, number: int) -> ex.Expression:
    return ex.substituted(tree, [("input", 0)] * (number + 1))


def _by_channel(spec: ConvSpec, array: Array, shape: tuple[int, ...]) -> Array | None:
    """Numbers that broadcast against a result as one for each of the convolution's channels."""
    axis = len(shape) - 1 if spec.channels_last else 1
    wide = (1,) * (len(shape) - array.ndim) + array.shape
    if any(size != 1 for dim, size in enumerate(wide) if dim != axis):
        return None
    of_result = np.broadcast_to(array.reshape(-1), (spec.out_channels,))
    found = np.empty(spec.out_channels)
    found[shuffled_channels(spec)] = of_result
    return found


def _has_constants(editor: Editor, layer: Node) -> bool:
    assert isinstance(layer.op, Layer)
    given = dict(zip(layer.op.arguments, layer.inputs, strict=True))
    return all(editor.actual(given[name]) in editor.constants for name in ("w", "bias") if name in given)


def _changed(
    editor: Editor, layer: Node, node: Node, scale: Array | None = None, shift: Array | None = None, *,
    residual: str | None = None, activation: str | None = None,
) -> Node | None:  # fmt: skip
    """A layer with more in it, making what ``node`` makes; None where its kind has no such."""
    spec = floats_of(layer)
    assert isinstance(layer.op, Layer) and spec is not None
    given = dict(zip(layer.op.arguments, layer.inputs, strict=True))
    try:
        spec = replace(
            spec, bias=spec.bias or (shift is not None and bool(np.any(shift))),
            residual=spec.residual or residual is not None, activation=activation or spec.activation,
        )  # fmt: skip
    except SpecError:
        return None
    if scale is not None:
        w = editor.constants[editor.actual(given["w"])]
        given["w"] = editor.constant(scaled_outputs(spec, w, scale), given["w"])
        old = editor.constants[editor.actual(given["bias"])] if "bias" in given else np.zeros(())
        if spec.bias:
            given["bias"] = editor.constant((old * scale + shift).astype(w.dtype), f"{given['w']}.bias")
    if residual is not None:
        given["residual"] = residual
    return relayered(editor, layer, spec, given, node.outputs, node.source)


def relayered(editor: Editor, layer: Node, spec: ConvSpec, given: dict[str, str], outputs: tuple[str, ...],
              source: tuple[str, ...] = ()) -> Node:  # fmt: skip
    """A node of a spec and its arguments by name, in call order."""
    names = [operand.name for operand in spec.signature() if operand.name in given]
    values = tuple(editor.actual(given[name]) for name in names)
    types = [editor.types[value] for value in values]
    types[0] = Type(spec.input_shape, spec.dtype)  # there may be no such value yet
    sources = tuple(dict.fromkeys((*layer.source, *source)))
    return Node(Layer(tuple(types), spec, tuple(names)), values, outputs, sources)


def scaled_outputs(spec: ConvSpec, w: Array, scale: Array) -> Array:
    """Weights, those of each output channel times its scale."""
    if spec.channels_last:  # (*kernel, I, O), or transposed (*kernel, I, O/groups)
        if not spec.transposed:
            return (w * scale).astype(w.dtype)
        groups = w.reshape(*w.shape[:-2], spec.groups, -1, w.shape[-1]) * scale.reshape(spec.groups, 1, -1)
        return groups.reshape(w.shape).astype(w.dtype)
    taps = (1,) * spec.rank
    if not spec.transposed:
        return (w * scale.reshape(-1, 1, *taps)).astype(w.dtype)
    groups = w.reshape(spec.groups, -1, *w.shape[1:]) * scale.reshape(spec.groups, 1, -1, *taps)
    return groups.reshape(w.shape).astype(w.dtype)


def folded_before(graph: Graph) -> Graph:
    """Where only convolutions read a map, and the last that it does is to scale and shift channels, that goes
    into their weights; a shift only where there is no padding, whose zeros it would not reach."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        after = readers.get(node.output, [])
        if not isinstance(node.op, Map) or not after or editor.is_output(node.output):
            continue
        constants = [editor.constants.get(editor.actual(name)) for name in node.inputs]
        inner, line = innermost(node.op.tree, constants)
        made = map_of(editor, inner, node.inputs)
        if line is None or made is None or made[0].infer() != node.op.infer():
            continue
        plain = inner[0] == "input"
        x = editor.actual(node.inputs[inner[1]]) if plain else editor.fresh(node.output)
        layers = [_before(editor, layer, node.output, x, *line) for layer in after]
        if all(one is not None for one in layers):
            if not plain:
                editor.add(*made, x, node.source)
            for one in layers:
                editor.put(one)  # type: ignore[arg-type]
    return editor.graph()


def _before(editor: Editor, layer: Node, value: str, x: str, scale: Array, shift: Array) -> Node | None:
    """A layer that reads ``value``, scale * x + shift, reading x itself."""
    spec = floats_of(layer)
    if not isinstance(layer.op, Layer) or spec is None or spec.transposed:
        return None
    given = dict(zip(layer.op.arguments, map(editor.actual, layer.inputs), strict=True))
    if list(given.values()).count(value) != 1 or given["x"] != value or not _has_constants(editor, layer):
        return None
    axis = len(spec.input_shape) - 1 if spec.channels_last else 1
    pair = []
    for part in (scale, shift):
        wide = (1,) * (len(spec.input_shape) - part.ndim) + part.shape
        if any(size != 1 for dim, size in enumerate(wide) if dim != axis):
            return None
        pair.append(np.broadcast_to(part.reshape(-1), (spec.in_channels,)))
    padded = any(lo or hi for lo, hi in spec.padding)
    if np.any(pair[1]) and padded and spec.padding_mode == "zeros":
        return None
    w = editor.constants[given["w"]]
    first = w if not spec.channels_last else np.moveaxis(w, (-1, -2), (0, 1))  # (O, I/groups, *kernel)
    each = spec.in_channels // spec.groups
    of_output = np.repeat(np.arange(spec.groups), spec.out_channels // spec.groups)
    wide = [part.reshape(spec.groups, each)[of_output].reshape(spec.out_channels, each, *(1,) * spec.rank)
            for part in pair]  # fmt: skip
    more = (first * wide[1]).reshape(spec.out_channels, -1).sum(1)
    scaled = (first * wide[0]).astype(w.dtype)
    scaled = scaled if not spec.channels_last else np.moveaxis(scaled, (0, 1), (-1, -2))
    given["x"], given["w"] = x, editor.constant(np.ascontiguousarray(scaled), given["w"])
    if np.any(more) or spec.bias:
        old = editor.constants[given["bias"]] if spec.bias else np.zeros(())
        given["bias"] = editor.constant((old + more).astype(w.dtype), f"{given['w']}.bias")
        spec = replace(spec, bias=True)
    return relayered(editor, layer, spec, given, layer.outputs)
