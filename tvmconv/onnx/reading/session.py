"""Running a model in onnxruntime with values inside it made visible."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.errors import Error, SpecError
from tvmconv.onnx.reading.exact_qlinear import without_saturation
from tvmconv.onnx.reading.graph import reads
from tvmconv.onnx.reading.model import Model
from tvmconv.onnx.reading.tensors import type_of

if TYPE_CHECKING:
    from onnx import ModelProto
    from onnxruntime import InferenceSession


_MOST_FEED_BYTES = 1 << 31


def observe(model: Model, feeds: Mapping[str, np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    """The values `names` of one run on `feeds` (every input of the model).

    Raises Error where onnxruntime is missing or cannot run the model, SpecError where `feeds` do not fit.
    """
    check_feeds(model, feeds)
    return run(replace(model, proto=without_saturation(model.proto, model.graph)), feeds, names)


def run(
    model: Model, feeds: Mapping[str, np.ndarray], names: Iterable[str], *, optimised: bool = False
) -> dict[str, np.ndarray]:
    """As `observe`, of the model as it is, on feeds that are right; optimised: as onnxruntime rewrites it."""
    names = list(dict.fromkeys(names))
    found = {name: feeds[name] for name in names if name in feeds}
    rest = [name for name in names if name not in feeds]
    if not rest:
        return found
    runtime = require_runtime()
    options = runtime.SessionOptions()
    if not optimised:  # node by node, as the model says: optimised graphs fuse roundings away
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = open_session(replace(model, proto=part_of(model.proto, rest)), options=options)
    try:
        found.update(zip(rest, session.run(rest, dict(feeds)), strict=True))
    except Exception as error:
        raise Error(f"{model.name}: onnxruntime cannot run it: {_first_line(error)}") from None
    return found


def part_of(proto: ModelProto, names: Iterable[str]) -> ModelProto:
    """The part of a model that makes these values, which are its outputs; with all inputs of the model."""
    import onnx

    source, nodes = proto.graph, list(proto.graph.node)
    producers = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    wanted: set[str] = set()
    kept: set[int] = set()
    names = list(dict.fromkeys(names))
    todo = list(names)
    while todo:
        name = todo.pop()
        number = producers.get(name)
        if name not in wanted and number is not None and number not in kept:
            kept.add(number)
            todo += reads(nodes[number])
        wanted.add(name)
    part = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    part.opset_import.extend(proto.opset_import)
    part.graph.name = "part"
    part.graph.node.extend(nodes[number] for number in sorted(kept))
    # An initialiser that is an input as well, as in old models, would be one without a value here.
    weights = {tensor.name for tensor in source.initializer} - wanted
    part.graph.input.extend(value for value in source.input if value.name not in weights)
    part.graph.initializer.extend(tensor for tensor in source.initializer if tensor.name in wanted)
    part.graph.sparse_initializer.extend(t for t in source.sparse_initializer if t.values.name in wanted)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return part


def open_session(model: Model, expose: Sequence[str] = (), *, options: Any = None) -> InferenceSession:
    """A session of the model in which the values `expose` are outputs as well; options: SessionOptions."""
    runtime = require_runtime()
    import onnx

    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    there = {value.name for value in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in expose if name not in there)
    options = options or runtime.SessionOptions()
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        return runtime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"],
            enable_fallback=0,  # it prints, and tries the same again
        )  # fmt: skip
    except Exception as error:
        raise Error(f"{model.name}: onnxruntime cannot load it: {_first_line(error)}") from None


def require_runtime() -> Any:
    """The `onnxruntime` module; raises Error, naming the pip extra, if it is not installed."""
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise Error("running ONNX models needs onnxruntime: pip install 'tvmconv[onnx]'") from None
    return onnxruntime


def check_feeds(model: Model, feeds: Mapping[str, np.ndarray]) -> None:
    """Raise SpecError unless `feeds` are arrays of the right types and ranks for the model's inputs."""
    inputs = model.inputs
    for name in inputs:
        if name not in feeds:
            raise SpecError(f"input {name!r}: missing; {model.name} takes {', '.join(inputs)}")
    for name, array in feeds.items():
        if name not in inputs:
            raise SpecError(f"input {name!r}: {model.name} takes {', '.join(inputs)}")
        wanted = element_type(model, name)
        if array.dtype != wanted:
            raise SpecError(f"input {name!r}: {array.dtype}, expected {wanted}")


def element_type(model: Model, name: str) -> np.dtype:
    """The NumPy type of an input of the model."""
    dtype = type_of(model.inputs[name].type.tensor_type.elem_type)
    if dtype is None:
        raise Error(f"{model.name}: input {name!r} is not a tensor of numbers")
    return dtype


def random_feeds(model: Model, shapes: Mapping[str, Sequence[int]], seed: int = 0) -> dict[str, np.ndarray]:
    """One array an input: standard normal numbers for floating point, any value for integers of 8 bits, which
    are images, ones for other integers and flags, which may be sizes. Raises SpecError beyond 2 GiB."""
    dtypes = {name: element_type(model, name) for name in model.inputs}
    size = sum(math.prod(shapes[name]) * dtype.itemsize for name, dtype in dtypes.items())
    if size > _MOST_FEED_BYTES:
        shown = ", ".join(f"{name} {'x'.join(map(str, shapes[name]))}" for name in dtypes)
        raise SpecError(
            f"{model.name}: random numbers for {shown}: {size} bytes, expected at most {_MOST_FEED_BYTES}"
        )
    rng = np.random.default_rng(seed)
    feeds = {}
    for name in model.inputs:
        dtype, shape = dtypes[name], tuple(shapes[name])
        if dtype.kind == "f":
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        elif dtype.kind in "iu" and dtype.itemsize == 1:
            limits = np.iinfo(dtype)
            feeds[name] = rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)
        else:
            feeds[name] = np.ones(shape, dtype)
    return feeds


def _first_line(error: Exception) -> str:
    """What onnxruntime said, without its codes and the C++ function that said it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", lines[0])
    return re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", "", text)
