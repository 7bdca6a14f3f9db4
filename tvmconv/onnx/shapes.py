"""Shapes and types of a model's values: the caller's shapes for the inputs, inferred for all others."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.dtypes import name_of
from tvmconv.errors import SpecError
from tvmconv.onnx.graph import Value
from tvmconv.onnx.model import Model, Shapes
from tvmconv.onnx.session import observe, random_feeds

if TYPE_CHECKING:
    from onnx import ModelProto, TypeProto, ValueInfoProto

Dims = tuple[int, ...]


Declared = "list[int | str | None] | None"

# Longer constants say nothing about shapes, and inference need not carry them along.
_SHAPE_CONSTANT_ELEMENTS = 1024


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
            given[name] = (value,) if isinstance(value, int) else tuple(int(dim) for dim in value)
        elif name in dimensions and isinstance(value, int):
            sizes[name] = value
        else:
            what = ", ".join(f"{n} ({_text(dims)})" for n, dims in declared.items()) or "none"
            raise SpecError(f"shape of {name!r}: {model.name} has no such input; its inputs: {what}")
    return {name: _fill(model, name, declared[name], given.get(name), sizes) for name in inputs}


def infer_values(model: Model, inputs: Mapping[str, Dims], wanted: Collection[str]) -> dict[str, Value]:
    """Shape and type of each of `wanted`, and of what else is known without running the model.

    By ONNX's inference; where it leaves one of `wanted` open, by running the model once in onnxruntime, on
    random numbers. Raises Error where that fails as well.
    """
    found = _inferred(model, inputs)
    missing = [name for name in wanted if name not in found]
    if missing:
        arrays = observe(model, random_feeds(model, inputs), missing)
        found.update((name, Value(array.shape, name_of(array))) for name, array in arrays.items())
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
    if not all(isinstance(dim, int) for dim in dims):
        names = [repr(dim) for dim in dims if isinstance(dim, str)]
        also = f", or sizes of the dimensions {', '.join(names)}" if len(names) == dims.count(None) else ""
        raise SpecError(
            f"shape of {name!r}: missing, and {model.name} leaves it open as {_text(dims)}; "
            f"expected as {name}={_example(dims)}{also}"
        )
    return tuple(dims)


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


def _inferred(model: Model, inputs: Mapping[str, Dims]) -> dict[str, Value]:
    import onnx

    lean = _lean(model.proto, inputs)
    # A node that it cannot do must not keep us from the others.
    with contextlib.suppress(Exception):
        lean = onnx.shape_inference.infer_shapes(lean, data_prop=True)
    found = {}
    for value in (*lean.graph.input, *lean.graph.value_info, *lean.graph.output):
        dims, kind = _declared(value.type), value.type.tensor_type.elem_type
        if dims is not None and all(isinstance(dim, int) for dim in dims) and kind:
            found[value.name] = Value(tuple(dims), np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name)
    return found


def _lean(proto: ModelProto, inputs: Mapping[str, Dims]) -> ModelProto:
    """The model with the inputs' shapes set, other shapes forgotten, and long weights replaced by inputs."""
    import math

    import onnx

    copy = onnx.ModelProto()
    copy.ir_version = max(proto.ir_version, 4)  # before, every initialiser had to be an input
    copy.opset_import.extend(proto.opset_import)
    graph = copy.graph
    graph.name = proto.graph.name or "graph"
    graph.node.extend(proto.graph.node)
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
