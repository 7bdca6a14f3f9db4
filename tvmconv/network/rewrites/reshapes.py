"""Element-wise work moved before a change of shape, to the layer that it can become part of."""

from __future__ import annotations

from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.operators import Copy, Layer, Map
from tvmconv.specs.operators.base import Type
from tvmconv.specs.operators.copy import reshaped


def maps_before_reshapes(graph: Graph) -> Graph:
    """A map of a layer's result in another shape, of as many channels in the last dim, in the layer's own."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        if isinstance(node.op, Map):
            _move(editor, node, readers)
    return editor.graph()


def _move(editor: Editor, node: Node, readers: dict[str, list[Node]]) -> None:
    assert isinstance(node.op, Map)
    y = node.op.infer()[0]
    shape = next(filter(None, (_layer_shape(editor, name, y, readers) for name in node.inputs)), None)
    if shape is None:
        return
    names = []
    for name in map(editor.actual, node.inputs):
        x = editor.types[name]
        if x.shape == y.shape:
            names.append(_reshaped(editor, name, shape))
        elif x.size == 1 or (x.shape[-1:] == y.shape[-1:] and x.size == x.shape[-1]):
            names.append(_reshaped(editor, name, x.shape[-1:] if x.size > 1 else ()))
        else:
            return
    op = Map(tuple(editor.types[name] for name in names), node.op.expression)
    if op.infer()[0].shape != shape:
        return
    made = editor.new(op, names, node.output, node.source)
    editor.put(Node(reshaped(op.infer()[0], y.shape), (made,), node.outputs, node.source))


def _layer_shape(
    editor: Editor, name: str, y: Type, readers: dict[str, list[Node]]
) -> tuple[int, ...] | None:
    """The shape of the layer's result that a value, read once and of the shape of ``y``, is reshaped from."""
    node = editor.producer(name)
    if node is None or not isinstance(node.op, Copy) or not node.op.is_reshape or node.op.shape != y.shape:
        return None
    before = editor.producer(node.inputs[0])
    if before is None or not isinstance(before.op, Layer) or editor.is_output(name):
        return None
    alone = len(readers.get(editor.actual(name), ())) == len(readers.get(before.output, ())) == 1
    shape = before.op.infer()[0].shape
    return shape if alone and shape[-1:] == y.shape[-1:] and not editor.is_output(before.output) else None


def _reshaped(editor: Editor, name: str, shape: tuple[int, ...]) -> str:
    if editor.types[name].shape == shape:
        return name
    if name in editor.constants:
        return editor.constant(editor.constants[name].reshape(shape), name)
    return editor.new(reshaped(editor.types[name], shape), [name], name)
