"""An ONNX model as a network: its layers with what is folded into them, all other nodes as our operators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.base.errors import Error
from tvmconv.network.graph import Editor, Graph, Value, in_order
from tvmconv.network.spellings import Call, importer_of
from tvmconv.network.spellings.call import dtype_named, supported
from tvmconv.onnx.reading.branches import Fixed, specialised
from tvmconv.onnx.reading.graph import attributes, is_standard, node_name, reads, subgraphs
from tvmconv.onnx.reading.model import Model, Shapes, Source, damage_told, load
from tvmconv.onnx.recognising.extraction import find_layers
from tvmconv.onnx.recognising.layers import Layer
from tvmconv.specs.operators import Layer as LayerOp
from tvmconv.specs.operators import Type
from tvmconv.specs.operators.copy import reshaped

if TYPE_CHECKING:
    from onnx import NodeProto

WAY_OUT = (
    "cut the model before it, run that part by another runtime, or compile its convolutions alone (without "
    "--whole)"
)


def import_model(
    source: Source | Model, shapes: Shapes | None = None, *, fixed: Fixed | None = None
) -> Graph:
    """The network of a model (a path, a file's bytes, or a ModelProto), channels-first as ONNX has it.

    shapes: of inputs with dynamic dimensions, by the input's name; or sizes by the dimension's name. fixed:
    values of inputs that will always be the same, by name. Inputs that nothing needs are kept.
    Raises Error for a model that cannot be used, or has a node that networks do not support: the message
    names it, its operator, its place and what to do; SpecError for shapes and values that do not fit.
    """
    model = load(source)
    with damage_told(model):
        special, inputs = specialised(model, shapes, fixed)
        layers, skipped = find_layers(special, inputs, "NCHW")
        return _Import(special, inputs, layers, {item.name: item.reason for item in skipped}).graph()


@dataclass(frozen=True, eq=False)
class _Job:
    """What makes some of the model's values: a layer, or a node."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    what: Layer | NodeProto

    @property
    def output(self) -> str:
        return self.outputs[0]


class _Import:
    def __init__(self, model: Model, inputs: Mapping[str, tuple[int, ...]], layers: list[Layer],
                 reasons: Mapping[str, str]) -> None:  # fmt: skip
        self._model, self._layers, self._reasons = model, layers, reasons
        self._names: dict[str, str] = {}
        self._editor = Editor({
            name: Value(name, tuple(inputs[name]), self._input_type(name)) for name in model.inputs
        })  # fmt: skip

    def _input_type(self, name: str) -> str:
        try:
            return dtype_named(self._model.inputs[name].type.tensor_type.elem_type)
        except Error as error:
            raise Error(f"{self._model.name}: input {name!r}: {error}") from None

    def graph(self) -> Graph:
        places = {id(node): number for number, node in enumerate(self._model.graph.nodes, 1)}
        for job in self._jobs():
            if isinstance(job.what, Layer):
                self._layer(job.what)
            else:
                self._node(job.what, places[id(job.what)])
        for value in self._model.proto.graph.output:
            self._editor.outputs[value.name] = self._value(value.name)
        return self._editor.graph()

    def _jobs(self) -> list[_Job]:
        """What the model's outputs need, in an order in which it can run."""
        graph, by_result = self._model.graph, {layer.y: layer for layer in self._layers}
        found: dict[int, _Job] = {}
        todo, seen = [value.name for value in self._model.proto.graph.output], set()
        while todo:
            name = todo.pop()
            if name in seen or name in self._editor.inputs or graph.constant(name) is not None:
                continue
            seen.add(name)
            layer, node = by_result.get(name), graph.producer(name)
            if node is None:
                raise Error(f"{self._model.name}: value {name!r}: nothing makes it")
            if layer is not None and not _is_of_rows(layer, node):
                job = _Job((*layer.inputs.values(), *layer.computed.values()), (name,), layer)
            else:
                job = _Job(self._read(node), tuple(out for out in node.output if out), node)
            found[id(node)] = job
            todo += job.inputs
        jobs = [found[id(node)] for node in graph.nodes if id(node) in found]
        try:
            return in_order(jobs)  # type: ignore[arg-type, return-value]
        except Error as error:
            raise Error(f"{self._model.name}: {error}") from None

    def _read(self, node: NodeProto) -> tuple[str, ...]:
        """The model's values that a node reads, in the graphs inside it as well."""
        graph, given = self._model.graph, filter(None, node.input)
        outside = (name for name in reads(node) if name in self._editor.inputs or graph.producer(name))
        return tuple(dict.fromkeys((*given, *outside)))

    def _value(self, name: str) -> str:
        """What a value of the model is called in the graph."""
        if name in self._names:
            return self._names[name]
        if name in self._editor.inputs:
            return name
        array = self._model.graph.constant(name)
        if array is None:
            raise Error(f"{name!r}: nothing before makes it")
        if not supported(array):
            raise Error(f"{name!r}: a constant of {array.dtype}, which networks do not have")
        self._names[name] = self._editor.constant(np.asarray(array), name)
        return self._names[name]

    def _layer(self, layer: Layer) -> None:
        editor, names, arguments = self._editor, [], []
        for argument in _call_order(layer):
            arguments.append(argument)
            if argument in layer.weights:
                names.append(editor.constant(np.asarray(layer.weights[argument]), f"{layer.name}.{argument}"))
            else:
                names.append(self._value({**layer.inputs, **layer.computed}[argument]))
        types = tuple(editor.types[name] for name in names)
        try:
            op = LayerOp(types, layer.spec, tuple(arguments))
        except Error as error:
            raise Error(f"{self._model.name}: node {layer.name}: {error}") from None
        shape = self._result_shape(layer, op.infer()[0])
        y = op.infer()[0]
        if shape == y.shape:
            self._names[layer.y] = editor.add(op, names, editor.fresh(layer.y), layer.nodes)
        else:  # a reduction that keeps no dims
            wide = editor.new(op, names, layer.y, layer.nodes)
            self._names[layer.y] = editor.new(reshaped(y, shape), [wide], layer.y, layer.nodes)

    def _result_shape(self, layer: Layer, found: Type) -> tuple[int, ...]:
        node = self._model.graph.producer(layer.y)
        drops = node is not None and node.op_type.startswith("Reduce") and node_name(node) == layer.nodes[-1]
        keeps = node is None or attributes(node).get("keepdims", 1)
        return found.shape if not drops or keeps else found.shape[:2]

    def _node(self, node: NodeProto, place: int) -> None:
        name, count = node_name(node), len(self._model.graph.nodes)
        where = f"{self._model.name}: node {name}: {node.op_type} (node {place} of {count})"
        importer = importer_of(node)
        if importer is None:
            domain = "" if is_standard(node) else f" of {node.domain}"
            why = f": {self._reasons[name]}" if name in self._reasons else ""
            inner = next((n.op_type for graph in subgraphs(node) for n in graph.node), "")
            if inner:
                why = f": a graph of its own ({inner}, ...), and whether it runs is known only then"
            raise Error(f"{where}{domain} is not supported in a whole network{why}; {WAY_OUT}")
        call = Call(self._editor, node, attributes(node), self._model.opset, name, self._value,
                    self._names.__setitem__)  # fmt: skip
        try:
            importer(call)
        except Error as error:
            raise Error(f"{where}: {error}") from None
        except (ValueError, KeyError) as error:
            raise Error(f"{where}: cannot be understood ({type(error).__name__}: {error})") from None


def _is_of_rows(layer: Layer, node: NodeProto) -> bool:
    """Whether a layer reduces the last of three dims: of sequences these are rows, not images."""
    return node.op_type.startswith("Reduce") and node_name(node) == layer.name and len(layer.spec.kernel) == 1


def _call_order(layer: Layer) -> list[str]:
    """A layer's arguments as functions of its spec take them."""
    given = {*layer.inputs, *layer.weights, *layer.computed}
    return [operand.name for operand in layer.spec.signature() if operand.name in given]


