"""Shapes and types of a model's values: the caller's shapes for the inputs, inferred for all others."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.graph import Value
from tvmconv.onnx.reading.model import Model, Shapes
from tvmconv.onnx.reading.tensors import type_of
from tvmconv.onnx.reading.trial import shapes_by_running

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto, ValueInfoProto

Dims = tuple[int, ...]


Declared = list[int | str | None] | None

# Longer constants say nothing about shapes, and inference need not carry them along.
_SHAPE_CONSTANT_ELEMENTS = 1024
_MOST_ROUNDS = 8
_MOST_DIMS = 1 << 16  # of a shape that the graph computes, for inference to follow it


def input_shapes(model: Model, shapes: Shapes | None = None) -> dict[str, Dims]:
    """The shape of every input of `model`, dynamic dimensions filled in from `shapes`.

    `shapes` maps an input's name to its shape, or a dynamic dimension's name to its size. Raises SpecError
    for a name that the model does not have, a shape that does not fit, and one that is missing.
    """
    inputs = model.inputs
    declared = {name: _declared(value.type) for name, value in inputs.items()}
    dimensions = {dim for dims in declared.values() for dim in dims or () if isinstance(dim, str)}
    sizes: dict[str, int] = {}
    given: dict[str, Dims] = {}
    for name, value in (shapes or {}).items():
        if name in inputs:
            given[name] = _sizes(name, value)
        elif name in dimensions:
            (sizes[name],) = _sizes(name, value, most=1)
        else:
            what = ", ".join(f"{n} ({_text(dims)})" for n, dims in declared.items()) or "none"
            raise SpecError(f"shape of {name!r}: {model.name} has no such input; its inputs: {what}")
    return {name: _fill(model, name, declared[name], given.get(name), sizes) for name in inputs}


def declared_shape(model: Model, name: str, shapes: Shapes) -> Dims | None:
    """The shape of one input, as it is given or declared; None where it is left open."""
    declared = _declared(model.inputs[name].type)
    if name in shapes:
        return _fill(model, name, declared, _sizes(name, shapes[name]), {})
    if declared is None:
        return None
    sizes = {
        dim: _sizes(dim, shapes[dim], most=1)[0] for dim in declared if isinstance(dim, str) and dim in shapes
    }
    return _whole([sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in declared])


def is_ranked(model: Model, name: str) -> bool:
    """Whether a model says how many dims an input has."""
    return _declared(model.inputs[name].type) is not None


def _whole(dims: Sequence[int | str | None] | None) -> Dims | None:
    """Dims that are all known."""
    known = tuple(dim for dim in dims or () if isinstance(dim, int))
    return None if dims is None or len(known) < len(dims) else known


def _sizes(name: str, value: Any, most: int | None = None) -> Dims:
    """The dims that a caller states. Raises SpecError for what is no whole number, or below 0."""
    try:
        dims = tuple(operator.index(dim) for dim in (value if isinstance(value, Iterable) else (value,)))
        if any(not 0 <= dim < 1 << 63 for dim in dims) or isinstance(value, str):
            raise TypeError
        if most is not None and len(dims) != most:
            raise TypeError
    except TypeError:
        what = "whole numbers, none below 0" if most is None else "one whole number, not below 0"
        raise SpecError(f"shape of {name!r}: {value!r}, expected {what}") from None
    return dims


def infer_values(model: Model, inputs: Mapping[str, Dims], wanted: Collection[str]) -> dict[str, Value]:
    """Shape and type of each of `wanted`, and of what else is known without running the model.

    By ONNX's inference; where it leaves one of `wanted` open, by running the model once in onnxruntime, on
    random numbers. Raises Error where that fails as well.
    """
    found: dict[str, Value] = {}
    for _ in range(_MOST_ROUNDS):  # what is computed from shapes that were found shows others
        before, found = found, inferred(model, inputs)
        model.graph.learn(found)
        if len(found) == len(before) or all(name in found for name in wanted):
            break
    missing = [name for name in wanted if name not in found]
    if missing:
        found.update(shapes_by_running(model, inputs, missing))
    return found


def _declared(kind: TypeProto) -> Declared:
    """Dims as the model declares them: a number, a name, or None for neither; None for no shape at all."""
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return None
    return [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else (dim.dim_param or None)
        for dim in tensor.shape.dim
    ]


def _text(dims: Sequence[int | str | None] | None) -> str:
    if dims is None:
        return "of any shape"
    return "x".join(str(dim) if isinstance(dim, int) else "?" for dim in dims) or "a scalar"


def _fill(model: Model, name: str, declared: Declared, given: Dims | None, sizes: dict[str, int]) -> Dims:
    if given is not None:
        if not _fits(given, declared):
            raise SpecError(
                f"shape of {name!r}: {_text(given)}, expected {_text(declared)} as {model.name} has it"
            )
        return given
    if declared is None:
        raise SpecError(
            f"shape of {name!r}: missing, and {model.name} leaves it open; expected as {name}=1x3x224x224"
        )
    dims = [sizes.get(dim, dim) if isinstance(dim, str) else dim for dim in declared]
    whole = _whole(dims)
    if whole is None:
        names = [repr(dim) for dim in dims if isinstance(dim, str)]
        also = f", or sizes of the dimensions {', '.join(names)}" if names and None not in dims else ""
        raise SpecError(
            f"shape of {name!r}: missing, and {model.name} leaves it open as {_text(dims)}; "
            f"expected as {name}={_example(dims)}{also}"
        )
    return whole


def _fits(given: Dims, declared: Declared) -> bool:
    if declared is None:
        return True
    return len(declared) == len(given) and all(
        not isinstance(want, int) or want == got for want, got in zip(declared, given, strict=True)
    )


def _example(dims: Sequence[int | str | None]) -> str:
    """A shape of the right rank: batch 1, 224 for the other open dims."""
    fill = ["1", *["224"] * len(dims)]
    return "x".join(str(dim) if isinstance(dim, int) else fill[i] for i, dim in enumerate(dims))


def inferred(model: Model, inputs: Mapping[str, Dims]) -> dict[str, Value]:
    """Shape and type of all values of which ONNX's inference finds them."""
    import onnx

    lean = _lean(model, inputs)
    # A node that it cannot do must not keep us from the others.
    with contextlib.suppress(Exception):
        lean = onnx.shape_inference.infer_shapes(lean, data_prop=_is_modest(lean))
    found = {}
    for value in (*lean.graph.input, *lean.graph.value_info, *lean.graph.output):
        dims, dtype = _whole(_declared(value.type)), type_of(value.type.tensor_type.elem_type)
        if dims is not None and dtype:
            found[value.name] = Value(dims, dtype.name)
    return found


def _is_modest(proto: ModelProto) -> bool:
    """Whether inference may follow the values of shapes: a chain of Concats would double them without end."""
    lengths = {tensor.name: math.prod(tensor.dims) for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        given = [lengths.get(name, 64) for name in node.input]  # of what is no constant: dims
        length = sum(given) if node.op_type == "Concat" else max(given, default=0)
        if node.op_type == "Constant":
            length = max((math.prod(attribute.t.dims) for attribute in node.attribute), default=0)
        if length > _MOST_DIMS:
            return False
        lengths.update(dict.fromkeys(node.output, length))
    return True


def _lean(model: Model, inputs: Mapping[str, Dims]) -> ModelProto:
    """The model with the inputs' shapes set, other shapes forgotten, long weights replaced by inputs, and
    nodes by their results where these are short constants."""
    import onnx

    proto, copy = model.proto, onnx.ModelProto()
    copy.ir_version = max(proto.ir_version, 4)  # before, every initialiser had to be an input
    copy.opset_import.extend(proto.opset_import)
    graph = copy.graph
    graph.name = proto.graph.name or "graph"
    short = model.graph.short_constants(_SHAPE_CONSTANT_ELEMENTS)
    for node in model.graph.nodes:
        if not all(name in short for name in node.output):
            graph.node.append(node)
    graph.initializer.extend(
        onnx.numpy_helper.from_array(short[name], name)
        for node in model.graph.nodes
        if all(name in short for name in node.output)
        for name in node.output
    )
    for tensor in proto.graph.initializer:
        if math.prod(tensor.dims) <= _SHAPE_CONSTANT_ELEMENTS:
            graph.initializer.append(tensor)
        else:
            graph.input.append(_value(tensor.name, tensor.data_type, tensor.dims))
    for value in proto.graph.input:
        if value.name in inputs:
            graph.input.append(_value(value.name, value.type.tensor_type.elem_type, inputs[value.name]))
    for value in proto.graph.output:
        graph.output.append(onnx.ValueInfoProto(name=value.name))
    return copy


def _value(name: str, elem_type: int, dims: Sequence[int]) -> ValueInfoProto:
    from onnx import helper

    return helper.make_tensor_value_info(name, elem_type, list(dims))
