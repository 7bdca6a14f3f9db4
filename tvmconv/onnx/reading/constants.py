"""The values of a graph that no input can change. Bounded in time and memory, whatever the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.onnx.reading.tensors import array_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from tvmconv.onnx.reading.graph import Graph

MOST_BYTES = 1 << 28
"""Of all folded values together, beside sixteen times the model's weights."""

# Nodes whose result is a constant where their inputs are: what exporters put between weights and their use,
# and between shapes and theirs, conditions among them. Each does work in proportion to its inputs and result.
_ELEMENTWISE = {
    "Abs", "Add", "And", "Cast", "Ceil", "DequantizeLinear", "Div", "Equal", "Floor", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow",
    "QuantizeLinear", "Reciprocal", "Sqrt", "Sub", "Where", "Xor",
}  # fmt: skip
_OF_SHAPES = ("Shape", "Size")
_OTHERS = {
    "Concat", "ConstantOfShape", "Dropout", "Expand", "Flatten", "Gather", "Identity", "ReduceMax",
    "ReduceMin", "ReduceProd", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip

_NO_END = (2**31 - 1, 2**63 - 1)


class Constants:
    """The constant values of a graph, each computed once, when it is asked for."""

    def __init__(self, graph: Graph, proto: ModelProto) -> None:
        self._graph = graph
        self._opsets = list(proto.opset_import)
        self._ir_version = proto.ir_version
        self._initializers = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._found: dict[str, np.ndarray | None] = {}
        weights = sum(tensor.ByteSize() for tensor in proto.graph.initializer)
        self._left = MOST_BYTES + 16 * weights

    def forget_unknown(self) -> None:
        """Look again, when asked, at values that were found not to be constant."""
        self._found = {name: array for name, array in self._found.items() if array is not None}

    def of(self, value: str) -> np.ndarray | None:
        """The array of a value; None where an input can change it, or it is too large to be computed."""
        # Without recursion: graphs are deeper than Python's stack.
        todo, begun = [value], set()
        while todo:
            name = todo[-1]
            if name in self._found:
                todo.pop()
                continue
            before = self._before(name)
            missing = [other for other in before if other not in self._found]
            hopeless = any(self._found.get(other, ()) is None for other in before)
            if missing and not hopeless and name not in begun:
                begun.add(name)  # again only where it depends on itself
                todo += missing
                continue
            self._found[name] = None if hopeless else self._evaluate(name, before)
            todo.pop()
        return self._found[value]

    def short(self, nodes: Sequence[NodeProto], most: int) -> dict[str, np.ndarray]:
        """The results of limited size that are computed only from such values, by name."""
        found: dict[str, np.ndarray] = {}
        names = {tensor.name for tensor in self._initializers.values() if math.prod(tensor.dims) <= most}
        for node in nodes:
            if node.op_type == "Constant" or not _is_foldable(node):
                ready = node.op_type == "Constant" and sum(a.ByteSize() for a in node.attribute) <= 16 * most
            else:
                ready = node.output[0] and self._is_short(node, names, most)
            for name in node.output if ready else ():
                array = self.of(name) if name else None
                if array is not None and array.size <= most:
                    names.add(name)
                    found[name] = array
        return found

    def _is_short(self, node: NodeProto, names: set[str], most: int) -> bool:
        before = self._before(node.output[0])
        if not all(name in names for name in before):
            return False
        arrays = [self.of(name) for name in before]
        given = [array for array in arrays if array is not None]
        return len(given) == len(arrays) and (not given or _elements(node, given) <= most)

    def _before(self, name: str) -> list[str]:
        """The values that one is computed from, if it can be constant."""
        node = self._graph.producer(name)
        if node is None or name in self._initializers or not _is_foldable(node):
            return []
        if node.op_type in _OF_SHAPES and self._graph.shape(node.input[0]) is not None:
            return []
        return list(dict.fromkeys(other for other in node.input if other))

    def _evaluate(self, name: str, before: Sequence[str]) -> np.ndarray | None:
        if name in self._initializers:
            return array_of(self._initializers[name])
        node = self._graph.producer(name)
        if node is None or not _is_foldable(node):
            return None
        if node.op_type == "Constant":
            return _constant(node)
        if not before:
            shape = self._graph.shape(node.input[0]) if node.op_type in _OF_SHAPES else None
            return None if shape is None else _of_shape(node, shape)
        arrays = {other: self._found.get(other) for other in before}
        if any(array is None or array.dtype.kind not in "biufcV" for array in arrays.values()):
            return None
        if node.op_type == "Identity":
            return arrays[before[0]]
        size = _bytes(node, [arrays[other] for other in node.input if other])
        if size > self._left:
            return None
        self._left -= size
        return self._run(node, arrays, name)

    def _run(self, node: NodeProto, arrays: dict[str, Any], value: str) -> np.ndarray | None:
        from onnx import helper, numpy_helper
        from onnx.reference import ReferenceEvaluator

        result = helper.make_empty_tensor_value_info(value)
        try:
            if node.op_type == "Slice" and len(node.input) == 5 and node.input[4]:
                return _sliced(node, arrays)
            weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
            graph = helper.make_graph([node], "constant", [], [result], weights)
            model = helper.make_model(graph, opset_imports=self._opsets, ir_version=self._ir_version)
            with np.errstate(all="ignore"):
                return np.asarray(ReferenceEvaluator(model).run([value], {})[0])
        except Exception:  # the evaluator may raise anything; then the value is simply unknown
            return None


def slice_of(start: int, end: int, step: int, size: int) -> slice:
    """A Slice node's positions of an axis, as Python's. Counting down, ONNX starts at the first element where
    Python would before it; an end before the first is none, and so for onnxruntime is the largest integer."""
    if step < 0:
        return slice(max(start, -size), None if end < -size or end in _NO_END else end, step)
    return slice(start, end, step)


def _sliced(node: NodeProto, arrays: dict[str, Any]) -> np.ndarray:
    """The result of a Slice node with steps, which the reference evaluator takes for Python's."""
    x, starts, ends, steps = (arrays[node.input[number]] for number in (0, 1, 2, 4))
    axes = arrays[node.input[3]] if node.input[3] else range(len(starts))
    cut = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        cut[axis] = slice_of(int(start), int(end), int(step), x.shape[axis])
    return x[tuple(cut)]


def _is_foldable(node: NodeProto) -> bool:
    known = node.op_type in _ELEMENTWISE or node.op_type in _OTHERS or node.op_type in _OF_SHAPES
    return node.domain in ("", "ai.onnx") and (node.op_type == "Constant" or (known and any(node.input)))


def _bytes(node: NodeProto, arrays: Sequence[np.ndarray]) -> float:
    """An upper bound on the bytes of a node's results."""
    item = max(array.itemsize for array in arrays)
    if node.op_type in ("DequantizeLinear", "QuantizeLinear"):
        item = 4
    elif node.op_type == "Cast":
        item = 8
    elif node.op_type == "ConstantOfShape":
        item = max((array_of(attribute.t).itemsize for attribute in node.attribute), default=4)
    return item * _elements(node, arrays)


def _elements(node: NodeProto, arrays: Sequence[np.ndarray]) -> float:
    """An upper bound on the elements of a node's results; infinity if its evaluation must not be tried."""
    found = {attribute.name: attribute for attribute in node.attribute}
    shapes, largest = [array.shape for array in arrays], max(array.size for array in arrays)
    kind = node.op_type
    if kind == "Cast" and "to" in found and found["to"].i == 8:  # text
        return math.inf
    if kind == "Split" and "num_outputs" in found and found["num_outputs"].i != len(node.output):
        return math.inf
    try:
        if kind in ("DequantizeLinear", "QuantizeLinear"):
            return largest
        if kind in _ELEMENTWISE:
            return math.prod(np.broadcast_shapes(*shapes))
        if kind == "Expand":
            return math.prod(np.broadcast_shapes(shapes[0], tuple(int(dim) for dim in arrays[1].reshape(-1))))
        if kind == "ConstantOfShape":
            return math.prod(max(int(dim), 0) for dim in arrays[0].reshape(-1))
        if kind == "Concat":
            return sum(array.size for array in arrays)
        if kind == "Gather":
            return arrays[1].size * (arrays[0].size // max(1, min(shapes[0], default=1)))
    except (ValueError, IndexError, TypeError):
        return math.inf
    return largest


def _of_shape(node: NodeProto, shape: tuple[int, ...]) -> np.ndarray:
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    found = {attribute.name: attribute.i for attribute in node.attribute}
    return np.asarray(shape[found.get("start", 0) : found.get("end", len(shape))], np.int64)


def _constant(node: NodeProto) -> np.ndarray | None:
    """The array of a Constant node; None for one of no numbers."""
    fields = {"value_float": ("f", "float32"), "value_floats": ("floats", "float32"),
              "value_int": ("i", "int64"), "value_ints": ("ints", "int64")}  # fmt: skip
    for attribute in node.attribute:
        if attribute.name == "value":
            return array_of(attribute.t)
        if attribute.name in fields:
            field, dtype = fields[attribute.name]
            return np.asarray(getattr(attribute, field), dtype)
    return None
