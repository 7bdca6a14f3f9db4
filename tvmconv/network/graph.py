"""A network: values and the operators that make them from others, in an order in which they can run.

Graphs are not changed: a rewrite gives another one, made by an `Editor`. ``check`` holds for every graph.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvmconv.base.dtypes import name_of
from tvmconv.base.errors import Error
from tvmconv.specs.operators import Operator, Type

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Value:
    """An array that a network takes, makes or has: its name in the graph, shape, element type."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def type(self) -> Type:
        """Shape and element type."""
        return Type(self.shape, self.dtype)


@dataclass(frozen=True)
class Node:
    """One operator with the names of the values that it reads and makes.

    source: names of the model's nodes that it comes from, for messages and traces.
    """

    op: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    source: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        """The first value that it makes."""
        return self.outputs[0]

    def __str__(self) -> str:
        return f"{', '.join(self.outputs)} = {self.op} of {', '.join(self.inputs)}"


@dataclass(frozen=True, eq=False)
class Graph:
    """inputs: values that a caller gives. outputs: public name -> value. values: every value, by name.
    constants: arrays of values that are known. nodes: each after those that it reads from."""

    inputs: tuple[str, ...]
    outputs: Mapping[str, str]
    values: Mapping[str, Value]
    constants: Mapping[str, Array]
    nodes: tuple[Node, ...]

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Raise Error for a graph that cannot be run: values that nothing or several things make, or that are
        read before they are made; types that are not what operators take and give."""
        made: set[str] = set()
        for name in (*self.inputs, *self.constants):
            self._make(name, made)
        for name, array in self.constants.items():
            known = self.values[name]
            if array.shape != known.shape or name_of(array) != known.dtype:
                raise Error(f"constant {name!r}: {array.shape} {name_of(array)}, expected {known.type}")
        for node in self.nodes:
            for names, types, what in (
                (node.inputs, node.op.inputs, "reads"), (node.outputs, node.op.infer(), "makes"),
            ):  # fmt: skip
                if len(names) != len(types):
                    raise Error(f"node of {node.output!r}: {what} {len(names)} values, expected {len(types)}")
                for name, wanted in zip(names, types, strict=True):
                    if what == "reads" and name not in made:
                        raise Error(f"node of {node.output!r}: reads {name!r}, which nothing before it makes")
                    if what == "makes":
                        self._make(name, made)
                    if self.values[name].type != wanted:
                        found = self.values[name].type
                        raise Error(f"node of {node.output!r}: {what} {name!r}, {found}, expected {wanted}")
        for public, name in self.outputs.items():
            if name not in made:
                raise Error(f"output {public!r}: nothing makes {name!r}")
        if len(self.values) != len(made):
            extra = next(name for name in self.values if name not in made)
            raise Error(f"value {extra!r}: nothing makes it")

    def _make(self, name: str, made: set[str]) -> None:
        if name in made:
            raise Error(f"value {name!r}: made twice")
        if name not in self.values:
            raise Error(f"value {name!r}: of no known type")
        made.add(name)

    def type(self, name: str) -> Type:
        """Shape and element type of a value."""
        return self.values[name].type

    def counts(self) -> dict[str, int]:
        """How many nodes there are of each operator."""
        found: dict[str, int] = {}
        for node in self.nodes:
            found[node.op.kind] = found.get(node.op.kind, 0) + 1
        return dict(sorted(found.items()))

    def __str__(self) -> str:
        return "\n".join(map(str, self.nodes))


@dataclass
class Editor:
    """A graph that is being made or changed. `graph` gives the result: sorted, without what nothing needs."""

    inputs: dict[str, Value] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    """By the first value that each makes."""

    def __post_init__(self) -> None:
        self.types: dict[str, Type] = {name: value.type for name, value in self.inputs.items()}
        self._producers: dict[str, Node] = {}
        self._instead: dict[str, str] = {}

    @classmethod
    def of(cls, graph: Graph) -> Editor:
        """An editor of a copy of a graph."""
        editor = cls({name: graph.values[name] for name in graph.inputs}, dict(graph.outputs),
                     dict(graph.constants))  # fmt: skip
        editor.types = {name: value.type for name, value in graph.values.items()}
        editor.nodes = {node.output: node for node in graph.nodes}
        editor._producers = {name: node for node in graph.nodes for name in node.outputs}
        return editor

    def put(self, node: Node) -> None:
        """Add a node, in the place of one that makes the same first value."""
        self.nodes[node.output] = node
        for name, type_ in zip(node.outputs, node.op.infer(), strict=True):
            self.types[name] = type_
            self._producers[name] = node

    def add(self, op: Operator, inputs: Sequence[str], output: str, source: Iterable[str] = ()) -> str:
        """Add a node of one result."""
        self.put(Node(op, tuple(inputs), (output,), tuple(source)))
        return output

    def new(self, op: Operator, inputs: Sequence[str], near: str, source: Iterable[str] = ()) -> str:
        """Add a node whose one result gets a name of its own, like ``near``."""
        return self.add(op, inputs, self.fresh(near), source)

    def remove(self, node: Node) -> None:
        """Take a node out; what reads its results has to read others."""
        del self.nodes[node.output]
        for name in node.outputs:
            del self._producers[name]

    def constant(self, array: Array, near: str = "constant") -> str:
        """Add a constant; its name."""
        name = self.fresh(near)
        self.constants[name] = array
        self.types[name] = Type(tuple(array.shape), name_of(array))
        return name

    def replace(self, old: str, new: str) -> None:
        """Let everything that reads a value read another one, of its type."""
        self._instead[old] = new

    def actual(self, name: str) -> str:
        """The value that is read where ``name`` was."""
        while name in self._instead:
            name = self._instead[name]
        return name

    def producer(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        return self._producers.get(self.actual(name))

    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes.values():
            for name in dict.fromkeys(map(self.actual, node.inputs)):
                found.setdefault(name, []).append(node)
        return found

    def is_output(self, name: str) -> bool:
        """Whether a value is one of the network's results."""
        return name in {self.actual(value) for value in self.outputs.values()}

    def fresh(self, near: str) -> str:
        """A name that no value has."""
        near = near.partition("#")[0]
        number, name = 1, near
        while name in self.types:
            number += 1
            name = f"{near}#{number}"
        self.types[name] = Type((), "float32")  # taken from now on; its maker states its type
        return name

    def graph(self) -> Graph:
        """The graph. Raises Error for one with a cycle."""
        outputs = {public: self.actual(name) for public, name in self.outputs.items()}
        nodes = [
            Node(node.op, tuple(map(self.actual, node.inputs)), node.outputs, node.source)
            for node in self.nodes.values()
        ]
        needed = list(_needed(nodes, outputs.values()))
        order = in_order(needed)
        used = {name for node in order for name in node.inputs} | set(outputs.values())
        constants = {name: array for name, array in self.constants.items() if name in used}
        made = [*self.inputs, *constants, *(name for node in order for name in node.outputs)]
        values = {name: Value(name, *self.types[name]) for name in made}
        return Graph(tuple(self.inputs), outputs, values, constants, tuple(order))


def _needed(nodes: Sequence[Node], names: Iterable[str]) -> Iterator[Node]:
    """The nodes that these values come from, in their order."""
    producers = {name: node for node in nodes for name in node.outputs}
    todo, seen = list(names), set()
    while todo:
        node = producers.get(todo.pop())
        if node is not None and id(node) not in seen:
            seen.add(id(node))
            todo += node.inputs
    return (node for node in nodes if id(node) in seen)


def in_order(nodes: Sequence[Node]) -> list[Node]:
    """Nodes, each after those that make what it reads; otherwise as they are. Raises Error for a cycle."""
    producers = {name: at for at, node in enumerate(nodes) for name in node.outputs}
    before = [{producers[name] for name in node.inputs if name in producers} for node in nodes]
    after: list[list[int]] = [[] for _ in nodes]
    for at, others in enumerate(before):
        for other in others:
            after[other].append(at)
    left = [len(others) for others in before]
    ready = [at for at, count in enumerate(left) if not count]
    order = []
    while ready:
        at = heapq.heappop(ready)
        order.append(nodes[at])
        for other in after[at]:
            left[other] -= 1
            if not left[other]:
                heapq.heappush(ready, other)
    if len(order) < len(nodes):
        stuck = next(node for node, count in zip(nodes, left, strict=True) if count)
        raise Error(f"value {stuck.output!r}: it is computed from itself, or from what is")
    return order
