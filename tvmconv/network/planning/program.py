"""A graph as a program: a step a node, over constants, the caller's arrays and one planned workspace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tvmconv.base.errors import Error
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.formats.program import ALIGNMENT, Operand, Place, Program, Step, program, step
from tvmconv.network.graph import Graph, Node
from tvmconv.network.memory import Buffer, MemoryPlan, plan_memory
from tvmconv.network.planning.doors import arguments_of
from tvmconv.network.planning.weights import Constants
from tvmconv.network.views import Views, arrays_of, place_values, width, work_of
from tvmconv.specs.operators import Copy, Layer, Map
from tvmconv.specs.pitched import Pitched
from tvmconv.specs.work import Work


@dataclass(frozen=True, eq=False)
class Planned:
    """program: what the network is. nodes: the graph's, that each step runs (or packs weights for). inputs,
    outputs: the arrays of a call by the model's names. memory: the plan of the workspace. buffers: of it,
    alive in the program's steps, not the plan's."""

    program: Program
    nodes: tuple[Node, ...]
    inputs: Mapping[str, Param]
    outputs: Mapping[str, Param]
    memory: MemoryPlan
    buffers: tuple[Buffer, ...]


def pitched_work_of(graph: Graph, views: Views, node: Node) -> Work:
    """What a kernel is compiled for, to run a step on values where they lie."""
    pitches = {}
    for value, array, _ in arrays_of(node):
        pitch, row = views.places[value].pitch, width(graph.type(value))
        if pitch != row and graph.type(value).size > row:
            pitches[array] = pitch
    return Pitched.of(work_of(node), pitches)


def works_of(graph: Graph) -> dict[Work, Node]:
    """What is to be compiled for a network, each once, and the first node that needs it."""
    found: dict[Work, Node] = {}
    views = place_values(graph)
    for node in _running(graph, views):
        found.setdefault(pitched_work_of(graph, views, node), node)
    return found


def program_of(
    graph: Graph, kernels: Mapping[Work, Kernel], descriptor: str, layouts: Mapping[str, str] | None = None,
    *, raw: bool = False,
) -> Planned:  # fmt: skip
    """The program of a network whose results are values of their own (`own_results`). ``kernels``: at least
    for `works_of` it. ``layouts``: see `arguments_of`. ``raw``: weights are packed before the first call,
    not now. Raises Error for what a program cannot be."""
    return _Planning(graph, kernels, raw).planned(descriptor, layouts or {})


def _running(graph: Graph, views: Views) -> list[Node]:
    """The nodes that have something to compute."""
    return [node for node in views.steps if any(graph.type(name).size for name in node.outputs)]


class _Planning:
    def __init__(self, graph: Graph, kernels: Mapping[Work, Kernel], raw: bool) -> None:
        self._graph, self._kernels = graph, kernels
        self._views = place_values(graph)
        self._memory = plan_memory(graph, self._views)
        self._constants = Constants(graph.constants, raw=raw)
        given = [*graph.inputs, *graph.outputs.values()]
        self._arguments = {name: Place("argument", number) for number, name in enumerate(given)}
        self._makers = Counter(node.output for node in self._views.steps)
        self._packing = 0  # bytes after the plan's, for weights that are computed

    def planned(self, descriptor: str, layouts: Mapping[str, str]) -> Planned:
        inputs, outputs = arguments_of(self._graph, layouts)
        steps, nodes = [], []
        for node in _running(self._graph, self._views):
            partial = isinstance(node.op, Copy) and node.op.fill is None  # the rest is another step's
            values = () if partial or self._makers[node.output] > 1 else node.outputs
            own = [replace(one, source=node.source, values=values) for one in self._steps(node)]
            steps += own
            nodes += [node] * len(own)
        made = program(
            descriptor, list(inputs.values()), list(outputs.values()), steps,
            constants=self._constants.held, prepared=self._constants.prepared,
            workspace=self._memory.bytes + self._packing,
        )  # fmt: skip
        return Planned(made, tuple(nodes), inputs, outputs, self._memory, self._buffers(nodes))

    def _buffers(self, nodes: Sequence[Node]) -> tuple[Buffer, ...]:
        """The plan counts nodes, some of which have no step, and some two."""
        steps: dict[int, list[int]] = {}
        for number, node in enumerate(nodes):
            steps.setdefault(id(node), []).append(number)
        of = [steps.get(id(node), ()) for node in self._views.steps]
        found = []
        for one in self._memory.buffers:
            alive = [number for numbers in of[one.first : one.last + 1] for number in numbers]
            if alive:
                found.append(replace(one, first=min(alive), last=max(alive)))
        return tuple(found)

    def _place(self, name: str) -> Place:
        """Where a value begins."""
        buffer, offset = self._views.places[name].buffer, self._views.places[name].offset
        more = offset * Param("", (), self._graph.values[name].dtype).itemsize
        if buffer in self._arguments:
            return self._arguments[buffer].after(more)
        if buffer in self._constants:
            return self._constants.value(buffer).after(more)
        return Place("workspace", 0, self._memory.offsets[buffer] + more)

    def _steps(self, node: Node) -> list[Step]:
        kernel = self._kernels[pitched_work_of(self._graph, self._views, node)]
        y, *more = (self._place(name) for name in node.outputs)
        if not isinstance(node.op, Layer):
            inputs = [self._place(name) for name in node.inputs]
            return [step(kernel, inputs, y, more_outputs=more, in_place=isinstance(node.op, Map))]
        values = dict(zip(node.op.arguments, node.inputs, strict=True))
        inputs = [self._place(values[param.name]) for param in kernel.inputs]
        if not kernel.packed:
            return [step(kernel, inputs, y)]
        weights = {param.name: values[param.name] for param in kernel.weights}
        if all(name in self._constants for name in weights.values()):
            return [step(kernel, inputs, y, self._constants.packed(kernel, weights))]
        packed = Place("workspace", 0, -(-self._memory.bytes // ALIGNMENT) * ALIGNMENT)
        self._packing = max(self._packing, kernel.packed_bytes + ALIGNMENT)
        return [self._pack(node, kernel, weights, packed), step(kernel, inputs, y, packed)]

    def _pack(self, node: Node, kernel: Kernel, weights: Mapping[str, str], packed: Place) -> Step:
        """What packs weights that the network computes."""
        read: list[Operand] = []
        for param in kernel.weights:
            name = weights[param.name]
            if self._graph.type(name).bytes != param.nbytes:
                raise Error(
                    f"node {', '.join(node.source)}: {param.name} is computed, {self._graph.type(name)}, "
                    f"expected {param.nbytes} bytes"
                )
            read.append((param, self._place(name)))
        offsets = kernel.packed_offsets()
        parts = [(part, packed.after(at)) for part, at in zip(kernel.packed, offsets, strict=True)]
        return Step(kernel, (*read, *parts), prepack=True)
