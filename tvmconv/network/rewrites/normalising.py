"""Normalisations that are written out as one operator: layer norms, with their scale and shift."""

from __future__ import annotations

import numpy as np

from tvmconv.network.graph import Editor, Graph, Node
from tvmconv.network.rewrites.algebra import affine
from tvmconv.network.rewrites.maps import map_of
from tvmconv.specs.operators import Map, Normalise, Reduce
from tvmconv.specs.operators import expression as ex

_A, _B = ("input", 0), ("input", 1)


def norms_read(graph: Graph) -> Graph:
    """(x - mean) / sqrt(mean of its squares + epsilon), mean over the same axes, as a normalisation."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        if isinstance(node.op, Map):
            _read(editor, node)
    return editor.graph()


def _read(editor: Editor, node: Node) -> None:
    assert isinstance(node.op, Map)
    for apart, root in _quotients(node.op.tree):
        found = _norm_of(editor, node.inputs[apart], node.inputs[root])
        if found is None:
            continue
        x, axes, epsilon = found
        op = Normalise((editor.types[x],), "standard", axes, epsilon)
        norm = editor.new(op, [x], node.output, node.source)
        quotient = ("div", ("input", apart), ("input", root))
        tree = _with(node.op.tree, quotient, ("input", len(node.inputs)))
        if tree == ("input", len(node.inputs)):
            editor.replace(node.output, norm)
            return
        made = map_of(editor, tree, (*node.inputs, norm))
        if made is not None and made[0].infer() == node.op.infer():
            editor.put(Node(*made, node.outputs, node.source))
        return


def _quotients(e: ex.Expression):
    """(a, b) of each quotient of two inputs in an expression."""
    head, *arguments = e
    if head in ("input", "number"):
        return
    if head == "div" and all(argument[0] == "input" for argument in arguments):
        yield arguments[0][1], arguments[1][1]
    for argument in arguments:
        yield from _quotients(argument)


def _with(e: ex.Expression, old: ex.Expression, new: ex.Expression) -> ex.Expression:
    if e == old:
        return new
    return e if e[0] in ("input", "number") else (e[0], *(_with(argument, old, new) for argument in e[1:]))


def _norm_of(editor: Editor, apart: str, root: str) -> tuple[str, tuple[int, ...], float] | None:
    """(x, axes, epsilon) where ``apart`` is x - mean and ``root`` the deviation of x."""
    difference, deviation = editor.producer(apart), editor.producer(root)
    if difference is None or not isinstance(difference.op, Map) or difference.op.tree != ("sub", _A, _B):
        return None
    if deviation is None or not isinstance(deviation.op, Map) or len(deviation.inputs) != 1:
        return None
    tree = deviation.op.tree
    if tree[0] != "sqrt" or tree[1][0] != "add" or tree[1][1] != _A or tree[1][2][0] != "number":
        return None
    x = editor.actual(difference.inputs[0])
    means = [_mean(editor, difference.inputs[1]), _mean(editor, deviation.inputs[0])]
    if None in means or means[0][0] != x or means[0][1] != means[1][1]:
        return None
    squares = editor.producer(means[1][0])
    if squares is None or not isinstance(squares.op, Map) or squares.op.tree != ("mul", _A, _A):
        return None
    if editor.actual(squares.inputs[0]) != editor.actual(apart):
        return None
    return x, means[0][1], tree[1][2][1]


def _mean(editor: Editor, name: str) -> tuple[str, tuple[int, ...]] | None:
    """(of what, over which axes) a value is the mean, its dims kept."""
    node = editor.producer(name)
    if node is None or not isinstance(node.op, Reduce) or node.op.operation != "mean" or not node.op.keepdims:
        return None
    return editor.actual(node.inputs[0]), node.op.axes


def norms_scaled(graph: Graph) -> Graph:
    """A product and a sum with constants that alone read a normalisation, as its scale and shift."""
    editor, readers = Editor.of(graph), Editor.of(graph).consumers()
    for node in graph.nodes:
        if not isinstance(node.op, Map):
            continue
        names = [editor.actual(name) for name in node.inputs]
        constants = [editor.constants.get(name) for name in names]
        free = [at for at, array in enumerate(constants) if array is None]
        before = editor.producer(names[free[0]]) if len(free) == 1 else None
        if before is None or not isinstance(before.op, Normalise):
            continue
        if before.op.method not in ("standard", "rms"):
            continue
        alone = len(readers.get(before.output, ())) == 1 and not editor.is_output(before.output)
        line = affine(node.op.tree, free[0], constants) if alone and len(before.inputs) == 1 else None
        x = before.op.inputs[0]
        if line is None or node.op.infer()[0] != x or any(part.ndim > len(x.shape) for part in line):
            continue
        kind = np.float64 if x.dtype == "float64" else np.float32
        if x.dtype not in ("float32", "float64"):
            continue
        values = [editor.constant(np.asarray(part).astype(kind), f"{node.output}.{name}")
                  for part, name in zip(line, ("scale", "shift"), strict=True)]  # fmt: skip
        names = [before.inputs[0], *values]
        op = Normalise(tuple(editor.types[name] for name in names), before.op.method, before.op.axes,
                       before.op.epsilon)  # fmt: skip
        editor.remove(before)
        editor.put(Node(op, tuple(names), node.outputs, (*before.source, *node.source)))
    return editor.graph()
