"""One layout inside: images channels-last. Layers, and what lies between them, are turned; the rest reads
them through copies, which other rewrites merge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.network.composing import composed
from tvmconv.network.graph import Editor, Graph, Node, Value
from tvmconv.onnx.reading.attributes import shape_in
from tvmconv.onnx.recognising.layers import weights_in
from tvmconv.specs.operators import Copy, Layer, Map, Normalise, Operator, Piece, Reduce, Resize
from tvmconv.specs.operators.base import Type
from tvmconv.specs.operators.copy import permuted, reshaped

DOORS = ("NCHW", "NHWC")


def channels_last(graph: Graph, door: str = "NCHW") -> Graph:
    """The same network with images channels-last inside.

    door: layout of all inputs and results of 4 dims, whatever they are. Raises SpecError for another.
    """
    if door not in DOORS:
        raise SpecError(f"layout: {door!r}, expected one of {', '.join(DOORS)}")
    turned = images(graph)
    return _Turning(graph, turned, door).graph()


def _is_layer(node: Node) -> bool:
    """Whether a node is a layer that can be channels-last and is not."""
    return isinstance(node.op, Layer) and "NHWC" in node.op.spec.layouts and not node.op.spec.channels_last


def images(graph: Graph) -> set[str]:
    """The values that are to be channels-last: images of layers, and what is made of them dim by dim."""
    ties: dict[str, set[str]] = {}

    def tie(names: list[str]) -> None:
        for name in names:
            ties.setdefault(name, set()).update(names)

    found = []
    for node in graph.nodes:
        if isinstance(node.op, Layer) and _is_layer(node):
            given = dict(zip(node.op.arguments, node.inputs, strict=True))
            images = [given["x"], *([given["residual"]] if "residual" in given else []), node.output]
            found += images
            tie(images)
        elif _follows(node):
            rank = len(graph.values[node.output].shape)
            tie([name for name in (*node.inputs, *node.outputs)
                 if name not in graph.constants and len(graph.values[name].shape) == rank])  # fmt: skip
    seen: set[str] = set()
    while found:
        name = found.pop()
        if name not in seen and name not in graph.constants:
            seen.add(name)
            found += ties.get(name, ())
    return seen


def _follows(node: Node) -> bool:
    """Whether a node works dim by dim, so that it can be of either layout."""
    op = node.op
    if isinstance(op, Copy):
        rank = len(op.shape)
        same = rank > 2 and all(len(one.shape) == rank for one in op.inputs)
        return same and all(_keeps_dims(op, piece) for piece in op.pieces)
    if isinstance(op, Reduce):
        return op.keepdims
    return isinstance(op, Map | Normalise | Resize)


def _keeps_dims(op: Copy, piece: Piece) -> bool:
    """Whether what a piece moves along images, channels and pixels stays along these; channels may change
    their order."""
    shape = op.inputs[piece.source].shape
    pairs = [((math.prod(shape[at:])), math.prod(op.shape[at:])) for at in (2, 1)]
    for step, to_step in zip(piece.steps, piece.to_steps, strict=True):
        if step and any((abs(step) >= apart) != (to_step >= to_apart) for apart, to_apart in pairs):
            return False
    pixels = [abs(step) for step in piece.steps if 0 < abs(step) < pairs[0][0]]
    return pixels == sorted(pixels, reverse=True)


class _Turning:
    """turned: values of the old graph that are channels-last in the new one, where they have other names."""

    def __init__(self, graph: Graph, turned: set[str], door: str) -> None:
        self._old, self._turned, self._door = graph, turned, door
        inputs = {}
        self._last: dict[str, str] = {}
        self._first: dict[str, str] = {}
        for name in graph.inputs:
            value = graph.values[name]
            if self._at_door(name, door):
                inputs[name] = Value(name, shape_in("NHWC", value.shape), value.dtype)
                self._last[name] = name
            else:
                inputs[name] = value
                self._first[name] = name
        self._editor = Editor(inputs, {}, dict(graph.constants))
        self._first.update({name: name for name in graph.constants})
        for name in (*graph.constants, *inputs):
            value = graph.values[name] if name not in inputs else inputs[name]
            self._editor.types[name] = value.type
        for name in graph.values:
            self._editor.types.setdefault(name, graph.values[name].type)

    def graph(self) -> Graph:
        for node in self._old.nodes:
            if _is_layer(node):
                self._layer(node)
            elif _follows(node) and node.output in self._turned:
                self._follow(node)
            else:
                names = tuple(self.first(name) for name in node.inputs)
                self._editor.put(Node(node.op, names, node.outputs, node.source))
                self._first.update({name: name for name in node.outputs})
        for public, name in self._old.outputs.items():
            last = self._at_door(name, self._door)
            self._editor.outputs[public] = self.last(name) if last else self.first(name)
        return self._editor.graph()

    def _at_door(self, name: str, door: str) -> bool:
        """Whether an input or a result is channels-last at the door."""
        return door == "NHWC" and len(self._old.values[name].shape) == 4

    def first(self, name: str) -> str:
        """A value as the old graph has it."""
        if name not in self._first:
            x = self._editor.types[self._last[name]]
            rank = len(x.shape)
            op = permuted(x, (0, rank - 1, *range(1, rank - 1)))
            self._first[name] = self._editor.new(op, [self._last[name]], name)
        return self._first[name]

    def last(self, name: str) -> str:
        """A value channels-last."""
        if name not in self._last:
            x = self._old.values[name].type
            if name in self._old.constants:
                array = np.moveaxis(self._old.constants[name], 1, -1)
                self._last[name] = self._editor.constant(np.ascontiguousarray(array), name)
            else:
                op = permuted(x, (0, *range(2, len(x.shape)), 1))
                self._last[name] = self._editor.new(op, [self.first(name)], name)
        return self._last[name]

    def _layer(self, node: Node) -> None:
        op, names = node.op, []
        assert isinstance(op, Layer)
        spec = replace(op.spec, input_shape=shape_in("NHWC", op.spec.input_shape), layout="NHWC")
        for argument, name in zip(op.arguments, node.inputs, strict=True):
            if argument in ("x", "residual"):
                names.append(self.last(name))
            elif argument == "w" and name in self._old.constants:
                array = weights_in(spec, self._old.constants[name])
                names.append(self._editor.constant(array, name))
            elif argument == "w":
                x = self._old.values[name].type
                swap = (0, 1) if spec.transposed else (1, 0)
                order = (*range(2, len(x.shape)), *swap)
                names.append(self._editor.new(permuted(x, order), [self.first(name)], name))
            else:
                names.append(self.first(name))
        types = tuple(self._editor.types[name] for name in names)
        self._made(node, Layer(types, spec, op.arguments), names)

    def _made(self, node: Node, op, names: list[str]) -> None:
        name = self._editor.fresh(node.output)
        self._last[node.output] = self._editor.add(op, names, name, node.source)

    def _follow(self, node: Node) -> None:
        op, rank = node.op, len(self._old.values[node.output].shape)
        axes = [0, rank - 1, *range(1, rank - 1)]  # where each dim comes to lie
        if isinstance(op, Copy):
            order = (0, *range(2, rank), 1)
            turned = self._copy_turned(op, order)
            if turned is not None:
                self._made(node, turned, [self.last(name) for name in node.inputs])
                return
            names = [self.first(name) for name in node.inputs]
            plain = self._editor.new(op, names, node.output, node.source)
            self._made(node, permuted(self._editor.types[plain], order), [plain])
            return
        names = [self._wide(name, rank) for name in node.inputs]
        types = tuple(self._editor.types[name] for name in names)
        made: Operator
        if isinstance(op, Normalise | Reduce):
            made = replace(op, inputs=types, axes=tuple(sorted(axes[axis] for axis in op.axes)))
        elif isinstance(op, Map):
            made = replace(op, inputs=types)
        else:
            assert isinstance(op, Resize)
            order = [0, *range(2, rank), 1]
            roi = [op.roi[axis + half * rank] for half in (0, 1) for axis in order] if op.roi else ()
            made = replace(
                op, inputs=types, shape=tuple(op.shape[axis] for axis in order), roi=tuple(roi),
                scales=tuple(op.scales[axis] for axis in order),
            )  # fmt: skip
        self._made(node, made, names)

    def _copy_turned(self, op: Copy, order: tuple[int, ...]) -> Copy | None:
        """A copy of channels-last values to one; None where it would have too many pieces."""
        back = (0, len(order) - 1, *range(1, len(order) - 1))
        found: Copy | None = op
        for number, x in enumerate(op.inputs):
            before = permuted(Type(tuple(x.shape[dim] for dim in order), x.dtype), back)
            found = None if found is None else composed(found, number, before)
        if found is None:
            return None
        return composed(permuted(Type(op.shape, op.inputs[0].dtype), order), 0, found)

    def _wide(self, name: str, rank: int) -> str:
        """An input channels-last, with so many dims; one that broadcasts may have fewer."""
        x: Type = self._old.values[name].type
        if len(x.shape) == rank:
            return self.last(name)
        wide = (1,) * (rank - len(x.shape)) + x.shape
        if name in self._old.constants:
            array = np.moveaxis(self._old.constants[name].reshape(wide), 1, -1)
            return self._editor.constant(np.ascontiguousarray(array), name)
        apart = self._editor.new(reshaped(x, wide), [self.first(name)], name)
        return self._editor.new(permuted(Type(wide, x.dtype), (0, *range(2, rank), 1)), [apart], name)
