"""A specialised model: fixed inputs become constants, and an If with a constant condition is replaced by its
branch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.graph import Graph, is_standard, subgraphs
from tvmconv.onnx.reading.model import Model, Shapes
from tvmconv.onnx.reading.session import element_type
from tvmconv.onnx.reading.shapes import Dims, declared_shape, inferred, input_shapes, is_ranked

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

Fixed = Mapping[str, "Any"]

_MOST_ROUNDS = 64  # of choosing branches, and of inferring shapes for it: conditions that depend on others


def parse_fixed(texts: Iterable[str]) -> dict[str, Any]:
    """Values of inputs as the command line states them: "sr=16000", "on=true", or "sizes=1,2.5"."""
    fixed: dict[str, Any] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        try:
            numbers = [_number(value) for value in values.split(",")]
        except ValueError:
            numbers = []
        if not equals or not name or not numbers:
            raise SpecError(f"value {text!r}: expected NAME=NUMBER, or several numbers joined by commas")
        if name in fixed:
            raise SpecError(f"value of {name!r}: given twice")
        fixed[name] = numbers[0] if len(numbers) == 1 else numbers
    return fixed


def _number(text: str) -> bool | int | float:
    if text in ("true", "false"):
        return text == "true"
    try:
        return int(text)
    except ValueError:
        return float(text)


def specialised(model: Model, shapes: Shapes | None, fixed: Fixed | None) -> tuple[Model, dict[str, Dims]]:
    """(the model with known values substituted, the shapes of its remaining inputs).

    fixed: values of inputs, by name: a number for all elements, or an array. The model is changed where an
    input is fixed, or where a condition of If is constant then, its input shapes known. Raises SpecError for
    names, values and shapes that do not fit.
    """
    if fixed:
        model = _with_constants(model, fixed, shapes)
    shapes = {name: shape for name, shape in (shapes or {}).items() if name not in (fixed or {})}
    inputs = input_shapes(model, shapes)
    known = 0
    for _ in range(_MOST_ROUNDS):
        if chosen := _chosen(model.graph):  # among the branches' nodes there may be more
            model, known = _inlined(model, chosen), 0
            continue
        if not any(_is_if(node) for node in model.graph.nodes):
            break
        before, shapes_found = known, inferred(model, inputs)
        model.graph.learn(shapes_found)
        known = len(shapes_found)
        if known <= before and not _chosen(model.graph):
            break
    return model, inputs


def _with_constants(model: Model, fixed: Fixed, shapes: Shapes | None) -> Model:
    from onnx import numpy_helper

    proto = _copy(model.proto)
    for name, value in fixed.items():
        array = _array(model, name, value, shapes or {})
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    kept = [value for value in proto.graph.input if value.name not in fixed]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    return _remade(model, proto)


def stated(model: Model, fixed: Fixed | None, shapes: Shapes | None) -> dict[str, Any]:
    """Values of inputs that need no ``shapes`` any more: arrays where the model leaves the shape open."""
    found = dict(fixed or {})
    for name, value in found.items():
        array = _array(model, name, value, shapes or {})
        if declared_shape(model, name, {}) is None:
            found[name] = array
    return found


def _array(model: Model, name: str, value: Any, shapes: Shapes) -> np.ndarray:
    """A value that was given for an input, in its type and shape. Raises SpecError."""
    if name not in model.inputs:
        raise SpecError(f"value of {name!r}: {model.name} takes {', '.join(model.inputs)}")
    dtype, what = element_type(model, name), f"value of {name!r}: {value!r}"
    try:
        given = np.asarray(value)
        with np.errstate(invalid="ignore", over="ignore"):
            array = given.astype(dtype)
        fits = given.dtype.kind in "biuf" and (dtype.kind == "f" or np.array_equal(array, given))
    except (TypeError, ValueError, OverflowError):
        fits = False
    if not fits:
        raise SpecError(f"{what}, expected numbers of type {dtype}")
    dims = declared_shape(model, name, shapes)
    if dims is None and array.ndim == 0 and is_ranked(model, name):
        raise SpecError(f"{what}, of unknown shape, expected its shape too, as {name}=1")
    if dims is None:
        return array
    if array.ndim and array.shape != dims:
        raise SpecError(f"{what}, of shape {array.shape}, expected one number, or an array of shape {dims}")
    return np.array(np.broadcast_to(array, dims))


def _is_if(node: NodeProto) -> bool:
    return node.op_type == "If" and is_standard(node) and len(node.input) == 1


def _chosen(graph: Graph) -> dict[int, GraphProto]:
    """The branch that runs of each If that has a constant condition, by the node's id."""
    found = {}
    for node in graph.nodes:
        condition = graph.constant(node.input[0]) if _is_if(node) else None
        if condition is None or condition.size != 1:
            continue
        wanted = "then_branch" if condition.reshape(()) else "else_branch"
        for attribute in node.attribute:
            if attribute.name == wanted and len(attribute.g.output) == len(node.output):
                found[id(node)] = attribute.g
    return found


def _inlined(model: Model, chosen: Mapping[int, GraphProto]) -> Model:
    """A model in which these nodes are replaced by the nodes of their branches."""
    proto = _copy(model.proto, nodes=False)
    used = {*_made(graph := model.proto.graph), *(name for node in graph.node for name in node.output)}
    used.update(name for node in model.graph.nodes if id(node) not in chosen for name in _inside(node))
    for node in model.graph.nodes:
        branch = chosen.get(id(node))
        if branch is None:
            proto.graph.node.append(node)
        else:
            _inline(node, branch, proto.graph, used)
    return _remade(model, proto)


def _inline(node: NodeProto, branch: GraphProto, into: GraphProto, used: set[str]) -> None:
    """Append a branch's nodes and weights. Its values get unique names (``used``); its results get those of
    the node's."""
    from onnx import helper

    initial = [*(tensor.name for tensor in branch.initializer),
               *(tensor.values.name for tensor in branch.sparse_initializer)]  # fmt: skip
    made = [name for inner in branch.node for name in inner.output if name]
    new: dict[str, str] = {}
    results = [(value.name, name) for value, name in zip(branch.output, node.output, strict=True) if name]
    for inside, outside in results:
        if inside in made and inside not in new:
            new[inside] = outside
    for name in dict.fromkeys([*initial, *made]):
        if name not in new:
            new[name] = _unused(name, used)
    for inner in branch.node:
        copy = into.node.add()
        copy.CopyFrom(inner)
        _rename(copy, new)
    for tensor in branch.initializer:
        copy = into.initializer.add()
        copy.CopyFrom(tensor)
        copy.name = new[tensor.name]
    for tensor in branch.sparse_initializer:
        copy = into.sparse_initializer.add()
        copy.CopyFrom(tensor)
        copy.values.name = new[tensor.values.name]
    into.node.extend(
        helper.make_node("Identity", [new.get(inside, inside)], [outside])
        for inside, outside in results
        if new.get(inside) != outside
    )


def _unused(name: str, used: set[str]) -> str:
    """A name like this one that is not in ``used``; it is added."""
    found, number = name, 1
    while found in used:
        number += 1
        found = f"{name}#{number}"
    used.add(found)
    return found


def _rename(node: NodeProto, new: Mapping[str, str]) -> None:
    """Other names for values, in the graphs inside a node too."""
    for names in (node.input, node.output):
        names[:] = [new.get(name, name) for name in names]
    for graph in subgraphs(node):
        for inner in graph.node:
            _rename(inner, new)
        for value in (*graph.input, *graph.output, *graph.initializer):
            value.name = new.get(value.name, value.name)
        for tensor in graph.sparse_initializer:
            tensor.values.name = new.get(tensor.values.name, tensor.values.name)


def _made(graph: GraphProto) -> Iterator[str]:
    """The names of a graph's inputs and initialisers."""
    yield from (value.name for values in (graph.input, graph.initializer) for value in values)
    yield from (tensor.values.name for tensor in graph.sparse_initializer)


def _inside(node: NodeProto) -> Iterator[str]:
    """The names of all values of the graphs inside a node."""
    for graph in subgraphs(node):
        yield from _made(graph)
        for inner in graph.node:
            yield from inner.output
            yield from _inside(inner)


def _copy(proto: ModelProto, *, nodes: bool = True) -> ModelProto:
    """A copy of a model, or of all but its nodes."""
    import onnx

    copy = onnx.ModelProto()
    if nodes:
        copy.CopyFrom(proto)
        return copy
    copy.ir_version = max(proto.ir_version, 4)  # before, every initialiser had to be an input
    copy.opset_import.extend(proto.opset_import)
    graph = copy.graph
    graph.name = proto.graph.name
    for part in ("input", "output", "initializer", "sparse_initializer"):
        getattr(graph, part).extend(getattr(proto.graph, part))
    return copy


def _remade(model: Model, proto: ModelProto) -> Model:
    proto.ir_version = max(proto.ir_version, 4)
    return replace(model, proto=proto, graph=Graph(proto, model.opset))
