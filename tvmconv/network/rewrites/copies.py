"""Copies of copies as one, copies that change nothing as nothing, and equal nodes as one."""

from __future__ import annotations

from dataclasses import replace

from tvmconv.network.composing import composed
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.specs.operators import Copy, Operator
from tvmconv.specs.operators.base import Type


def without_repetition(graph: Graph) -> Graph:
    """Nodes that compute the same from the same values are one."""
    editor, seen = Editor.of(graph), {}
    for node in graph.nodes:
        key = (node.op, tuple(map(editor.actual, node.inputs)))
        first = seen.setdefault(key, node)
        if first is not node:
            for old, new in zip(node.outputs, first.outputs, strict=True):
                editor.replace(old, new)
    return editor.graph()


def merged_copies(graph: Graph) -> Graph:
    """Each copy reads what is not a copy, where that makes few pieces; those that change nothing go."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        if not isinstance(node.op, Copy):
            continue
        node = _merged(editor, node)
        editor.put(node)
        op = node.op
        if isinstance(op, Copy) and op.is_reshape and op.inputs == op.infer():
            editor.replace(node.output, node.inputs[0])
    return editor.graph()


def _merged(editor: Editor, node: Node) -> Node:
    op, inputs, source, number = node.op, [editor.actual(name) for name in node.inputs], node.source, 0
    assert isinstance(op, Copy)
    while number < len(inputs):
        before = editor.producer(inputs[number])
        if before is not None and isinstance(before.op, Copy):
            both = composed(op, number, before.op)
            if both is not None:
                op, inputs[number : number + 1] = both, map(editor.actual, before.inputs)
                source = tuple(dict.fromkeys((*before.source, *source)))
                continue
        number += 1
    return Node(*_each_once(op, inputs), node.outputs, source)


def _each_once(op: Copy, inputs: list[str]) -> tuple[Operator, tuple[str, ...]]:
    """A copy that has each input once, and none that it does not read."""
    used = [name for at, name in enumerate(inputs) if any(piece.source == at for piece in op.pieces)]
    names = list(dict.fromkeys(used)) or inputs[:1]
    types: dict[str, Type] = dict(zip(inputs, op.inputs, strict=True))
    pieces = tuple(replace(piece, source=names.index(inputs[piece.source])) for piece in op.pieces)
    return Copy(tuple(types[name] for name in names), op.shape, pieces, op.fill), tuple(names)
