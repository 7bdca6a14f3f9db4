"""One node of an ONNX model as its importer sees it: arrays that are known, types, and what to make of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import name_of, rounded, widened
from tvmconv.base.errors import Error
from tvmconv.network.graph import Editor, Node
from tvmconv.specs.operators import Map, Operator, Type
from tvmconv.specs.operators import expression as ex
from tvmconv.specs.operators.base import DTYPES, read_axes
from tvmconv.specs.operators.copy import reshaped

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]
Importer = Callable[["Call"], None]

MOST_FOLDED = 1 << 24  # elements of a constant that is computed ahead of time


@dataclass
class Call:
    """editor: of the graph that grows. node: with its attributes; opset: of the model. name: what messages
    call it. names: what the model's values are called in the graph; constants come into it on demand."""

    editor: Editor
    node: NodeProto
    attributes: dict[str, Any]
    opset: int
    name: str
    value: Callable[[str], str]
    bind: Callable[[str, str], None]

    @property
    def kind(self) -> str:
        """The ONNX operator."""
        return self.node.op_type

    def has(self, number: int) -> bool:
        """Whether an input is there."""
        return number < len(self.node.input) and bool(self.node.input[number])

    def input(self, number: int) -> str:
        """The graph's value of an input. Raises Error where it is left out."""
        if not self.has(number):
            raise Error(f"input {number}: missing")
        return self.value(self.node.input[number])

    def inputs(self) -> list[str]:
        """The graph's values of all inputs."""
        return [self.value(name) for name in self.node.input if name]

    def type(self, number: int) -> Type:
        """Shape and element type of an input."""
        return self.editor.types[self.input(number)]

    def known(self, number: int) -> Array | None:
        """The array of an input, bfloat16 as float32; None where it is left out or computed while the network
        runs."""
        found = self.editor.constants.get(self.input(number)) if self.has(number) else None
        return None if found is None else widened(found)

    def constant(self, number: int, what: str) -> Array:
        """The array of an input that has to be known. Raises Error."""
        found = self.known(number)
        if found is None:
            state = "computed while the network runs" if self.has(number) else "missing"
            raise Error(f"{what}: {state}, expected a constant (an input can be fixed by its value)")
        return found

    def ints(self, number: int, attribute: str, what: str | None = None) -> list[int] | None:
        """Whole numbers that an attribute, or in newer opsets an input, states; None where neither does."""
        if attribute in self.attributes:
            stated = self.attributes[attribute]
            return [int(v) for v in (stated if isinstance(stated, Sequence) else [stated])]
        if not self.has(number):
            return None
        return [int(v) for v in self.constant(number, what or attribute).reshape(-1)]

    def axis(self, default: int, rank: int, name: str = "axis") -> int:
        """The axis that an attribute states, from 0. Raises Error."""
        return read_axes(self.kind, [int(self.attributes.get(name, default))], rank)[0]

    def give(self, op: Operator, inputs: Sequence[str], output: int = 0) -> str:
        """Make one of the node's results by an operator; the value's name."""
        name = self.node.output[output]
        made = self.editor.add(op, inputs, self.editor.fresh(name), [self.name])
        made = self._folded(made)
        self.bind(name, made)
        return made

    def give_value(self, value: str, output: int = 0) -> None:
        """Let one of the node's results be a value that is there."""
        self.bind(self.node.output[output], value)

    def give_constant(self, array: Array, output: int = 0) -> None:
        """Let one of the node's results be a constant."""
        name = self.node.output[output]
        self.bind(name, self.editor.constant(array, name))

    def between(self, op: Operator, inputs: Sequence[str], near: int = 0) -> str:
        """A value on the way to a result; its name."""
        near_name = self.node.output[near] or self.name
        return self._folded(self.editor.new(op, inputs, near_name, [self.name]))

    def array(self, values: Any, dtype: str) -> str:
        """A constant of the node's own; its name."""
        return self.editor.constant(rounded(np.asarray(values), dtype), self.name)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        """A value in another shape: itself where it has that one."""
        found = self.editor.types[value]
        if found.shape == tuple(shape):
            return value
        return self.between(reshaped(found, tuple(int(dim) for dim in shape)), [value])

    def map(self, text: str, values: Sequence[str], dtype: str | None = None) -> tuple[Map, list[str]]:
        """The map of an expression of these values, and those that it reads: constants of one element become
        numbers in it. dtype: of the result, where it is not the expression's own."""
        types = [self.editor.types[value] for value in values]
        shape = np.broadcast_shapes(*(one.shape for one in types))
        parts: list[ex.Expression] = [("input", number) for number in range(len(values))]
        numbers = [self._number(value, len(shape)) for value in values]
        reads = [at for at, number in enumerate(numbers) if number is None]
        # What would narrow the result when it is not read has to be read.
        if not reads or np.broadcast_shapes(*(types[at].shape for at in reads)) != shape:
            reads = list(range(len(values)))
        kept = {at: value for at, value in enumerate(values) if at in reads}
        unique = list(dict.fromkeys(kept.values()))
        for at, number in enumerate(numbers):
            parts[at] = ("number", number) if at not in kept else ("input", unique.index(kept[at]))
        tree = ex.substituted(ex.parse(text), parts)
        used = sorted(ex.inputs_of(tree))
        renamed = [("input", used.index(i)) if i in used else () for i in range(len(unique))]
        tree = ex.substituted(tree, renamed)
        unique = [unique[at] for at in used]
        found = ex.dtype_of(tree, [self.editor.types[value].dtype for value in unique])
        if dtype is not None and found != dtype:
            tree = (f"cast_{dtype}", tree)
        return Map(tuple(self.editor.types[value] for value in unique), ex.text_of(tree)), unique

    def give_map(self, text: str, values: Sequence[str], dtype: str | None = None, output: int = 0) -> str:
        """Make one of the node's results by an expression of values."""
        return self.give(*self.map(text, values, dtype), output)

    def _number(self, value: str, rank: int) -> float | None:
        array = self.editor.constants.get(value)
        if array is None or array.size != 1 or array.ndim > rank or array.dtype.kind not in "fiu":
            return None
        number = float(array.reshape(()))
        return number if array.dtype.kind == "f" or abs(number) < 1 << 53 else None

    def _folded(self, value: str) -> str:
        """A value, or the constant that it is."""
        node = self.editor.producer(value)
        if node is None or any(name not in self.editor.constants for name in node.inputs):
            return value
        if self.editor.types[value].size > MOST_FOLDED:
            return value
        self.editor.constants.update(folded(node, [self.editor.constants[name] for name in node.inputs]))
        self.editor.remove(node)
        return value


def folded(node: Node, arrays: Sequence[Array]) -> dict[str, Array]:
    """The results of a node on constants, by name, in the types that they have."""
    types = node.op.infer()
    results = node.op.reference(arrays)
    with np.errstate(over="ignore"):
        return {
            name: np.ascontiguousarray(array if array.dtype.kind != "f" else rounded(array, type_.dtype))
            .reshape(type_.shape)
            for name, array, type_ in zip(node.outputs, results, types, strict=True)
        }  # fmt: skip


def dtype_named(elem_type: int) -> str:
    """The name of one of ONNX's element types. Raises Error for one that networks do not have."""
    from tvmconv.onnx.reading.tensors import type_of

    found = type_of(elem_type)
    if found is None or found.name not in DTYPES:
        what = "text" if found is None else found.name
        raise Error(f"element type {what}, expected one of {', '.join(DTYPES)}")
    return found.name


def supported(array: Array) -> bool:
    """Whether an array is of a type that networks have."""
    return name_of(array) in DTYPES
