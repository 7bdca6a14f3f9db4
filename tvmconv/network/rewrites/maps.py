"""Chains of element-wise operators as one, in simpler terms."""

from __future__ import annotations

from tvmconv.base.dtypes import FLOATS
from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.rewrites.algebra import simplified
from tvmconv.specs.operators import Map
from tvmconv.specs.operators import expression as ex

MOST_INPUTS = 8
MOST_PARTS = 64


def fused_maps(graph: Graph) -> Graph:
    """A map whose one reader is a map of the same shape becomes part of it."""
    editor = Editor.of(graph)
    readers = editor.consumers()
    for node in graph.nodes:
        if not isinstance(node.op, Map):
            continue
        while (joined := _joined(editor, node, readers)) is not None:
            node = joined
            editor.put(node)
            readers = editor.consumers()
    return editor.graph()


def simpler_maps(graph: Graph) -> Graph:
    """Expressions of floats by fewer parts; a map that changes nothing goes."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        if not isinstance(node.op, Map) or any(one.dtype not in FLOATS for one in node.op.inputs):
            continue
        tree = simplified(node.op.tree)
        if tree[0] == "input" and node.op.inputs[tree[1]] == node.op.infer()[0]:
            editor.replace(node.output, node.inputs[tree[1]])
        elif tree != node.op.tree or len(set(node.inputs)) < len(node.inputs):
            made = map_of(editor, tree, node.inputs)
            if made is not None and made[0].infer() == node.op.infer():
                editor.put(Node(*made, node.outputs, node.source))
    return editor.graph()


def map_of(editor: Editor, tree: ex.Expression, names: tuple[str, ...]) -> tuple[Map, tuple[str, ...]] | None:
    """The map of an expression of these values, each input once, in the order in which it reads them; None
    for an expression that reads none."""
    actual = [editor.actual(name) for name in names]
    kept = list(dict.fromkeys(actual[at] for at in _as_read(tree)))
    if not kept:
        return None
    renamed = [("input", kept.index(name)) if name in kept else ("number", 0.0) for name in actual]
    tree = ex.substituted(tree, renamed)
    return Map(tuple(editor.types[name] for name in kept), ex.text_of(tree)), tuple(kept)


def _as_read(e: ex.Expression) -> list[int]:
    if e[0] in ("input", "number"):
        return [e[1]] if e[0] == "input" else []
    return [number for argument in e[1:] for number in _as_read(argument)]


def _joined(editor: Editor, node: Node, readers: dict[str, list[Node]]) -> Node | None:
    """A map with one that only it reads, and that is of its shape, put into it; None where there is none."""
    assert isinstance(node.op, Map)
    shape = node.op.infer()[0].shape
    for name in map(editor.actual, node.inputs):
        before = editor.producer(name)
        if before is None or not isinstance(before.op, Map) or editor.types[name].shape != shape:
            continue
        if len(readers.get(name, ())) > 1 or editor.is_output(name):
            continue
        names = (*node.inputs, *before.inputs)
        later = [("input", len(node.inputs) + at) for at in range(len(before.inputs))]
        inner = ex.substituted(before.op.tree, later)
        same = [editor.actual(other) == name for other in node.inputs]  # it may be read twice
        parts = [inner if is_it else ("input", at) for at, is_it in enumerate(same)]
        tree = ex.substituted(node.op.tree, parts)
        made = map_of(editor, tree, names)
        if made is None or len(made[1]) > MOST_INPUTS or ex.parts(tree) > MOST_PARTS:
            continue
        if made[0].infer() == node.op.infer():
            editor.remove(before)
            return Node(*made, node.outputs, tuple(dict.fromkeys((*before.source, *node.source))))
    return None
