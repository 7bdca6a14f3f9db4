"""Whether a library computes what onnxruntime does, on the model's real activations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import epsilon
from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.frontends.verify import ACTIVATION_ERRORS, operands
from tvmconv.onnx.reading.model import Model, Source, load
from tvmconv.onnx.reading.session import element_type, observe
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.recognising.layers import Extraction, Layer, image_from, image_in, weights_in

if TYPE_CHECKING:
    from tvmconv.runtime import Bound, Module

TOLERANCE = 1e-5
"""Largest error of a right float32 kernel, relative to the range of the output."""


@dataclass(frozen=True)
class Agreement:
    """One layer, compared with onnxruntime.

    node: the layer's. function: its C name. descriptor: what it computes. max_abs: the largest error. range:
    largest minus smallest value of onnxruntime's result. relative: the error over range (over the largest
    value where all are equal), of the element that is nearest to failing. tolerance: the largest that passes
    there, with what its activation may err by.
    """

    node: str
    function: str
    descriptor: str
    max_abs: float
    range: float
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the layer agrees; NaN does not."""
        return self.relative <= self.tolerance


def verify_model(
    source: Source | Model,
    module: Module,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    tolerance: float | None = None,
) -> list[Agreement]:
    """Run a model in onnxruntime once, and every layer's kernel on the activations that arrive there.

    module: a loaded library that was compiled from this model. inputs: the model's inputs by name, or the one
    array of a model with one input. tolerance: of the error over the range of a layer's output; None for what
    rounding in the layer's type and its activation may cause. Raises ArtifactError for a library of another
    model, SpecError for inputs that do not fit, Error where onnxruntime cannot run the model.
    """
    return verify_extraction(extraction_of(module, source), module, inputs, tolerance=tolerance)


def verify_extraction(
    found: Extraction,
    module: Module,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    tolerance: float | None = None,
) -> list[Agreement]:
    """As `verify_model`, with the layers that `extraction_of` found."""
    feeds = feeds_of(found, inputs)
    values = arriving(found, feeds)
    return [
        _compare(layer, bound, values, bound(*inputs), tolerance)
        for layer, bound, inputs in bind(module, found, values)
    ]


def extraction_of(module: Module, source: Source | Model) -> Extraction:
    """The layers of the model that `module` was compiled from; raises ArtifactError for another one."""
    about = module.manifest.get("onnx")
    if about is None:
        raise ArtifactError(
            f"library: {module.path} was compiled from descriptors, expected from an ONNX model"
        )
    if about.get("whole"):
        what = f"library: {module.path} is of a whole network"
        raise ArtifactError(f"{what}, expected one of layers")
    model = load(source)
    if model.digest != about["digest"]:
        raise ArtifactError(
            f"library: {module.path} was compiled from another model ({about['model']}, SHA-256 "
            f"{about['digest'][:16]}...), expected {model.name} ({model.digest[:16]}...)"
        )
    blocks = bool(about.get("blocks"))
    return extract(
        model, about["shapes"], fixed=about.get("fixed"), layout=about["layout"], blocks=blocks)


def feeds_of(found: Extraction, inputs: np.ndarray | Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The model's inputs by name, checked against the shapes that the layers are for; raises SpecError."""
    names = list(found.shapes)
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise SpecError(f"inputs: one array, expected {len(names)} by name: {', '.join(names)}")
        inputs = {names[0]: inputs}
    feeds = {name: np.asarray(array) for name, array in inputs.items()}
    for name in names:
        if name not in feeds:
            raise SpecError(f"input {name!r}: missing, expected {', '.join(names)}")
    for name, array in feeds.items():
        if name not in found.shapes:
            raise SpecError(f"input {name!r}: not one of {found.model.name}, which takes {', '.join(names)}")
        if array.shape != found.shapes[name]:
            wanted = f"{found.shapes[name]}, which the library was compiled for"
            raise SpecError(f"input {name!r}: shape {array.shape}, expected {wanted}")
        dtype = element_type(found.model, name)
        if array.dtype != dtype:
            raise SpecError(f"input {name!r}: {array.dtype}, expected {dtype}")
    return feeds


def arriving(found: Extraction, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The inputs and outputs of all layers in one run of onnxruntime, by the names of the graph's values."""
    names = []
    for layer in found.layers:
        names += [*layer.inputs.values(), *layer.computed.values(), *filter(None, [layer.activated]), layer.y]
    values = observe(found.model, feeds, [name for name in names if _is_computed(found.model, name)])
    constants = {name: found.model.graph.constant(name) for name in names if name not in values}
    return {**values, **constants}


def bind(
    module: Module, found: Extraction, values: Mapping[str, np.ndarray]
) -> Iterator[tuple[Layer, Bound, list[np.ndarray]]]:
    """Each layer with the function of the library that computes it, weights bound, and what to call that
    with; in the graph's order. values: as `arriving` gives them."""
    entries = {node: entry for entry in module.manifest["functions"] for node in entry.get("onnx_nodes", ())}
    for layer in found.layers:
        if layer.name not in entries:
            raise ArtifactError(f"library: {module.path} has no function for node {layer.name}")
        entry = entries[layer.name]
        function = module[entry["name"]]
        weights, inputs = operands(entry["arguments"], arrays_of(layer, values))
        yield layer, function.bind() if function.baked else function.bind(*weights), inputs


def arrays_of(layer: Layer, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All arrays that a layer's function takes, by argument, as they lie in its layout; ``values``: as
    `arriving` gives them."""
    arrays = {name: image_in(layer.spec.layout, values[value]) for name, value in layer.inputs.items()}
    arrays.update(layer.weights)
    for name, value in layer.computed.items():
        arrays[name] = weights_in(layer.spec, values[value]) if name == "w" else values[value]
    return arrays


def _is_computed(model: Model, name: str) -> bool:
    """Whether a value can be seen in a run: an initialiser cannot."""
    return name in model.inputs or model.graph.producer(name) is not None


def _compare(
    layer: Layer, bound: Bound, values: Mapping[str, np.ndarray], y: Any, tolerance: float | None
) -> Agreement:
    expected = values[layer.y]
    actual = image_from(layer.spec.layout, y).reshape(expected.shape)
    error = np.abs(actual.astype(np.float64) - expected)
    span = size = 0.0
    if expected.size:
        span = float(np.max(expected)) - float(np.min(expected))
        size = span or float(np.max(np.abs(expected)))
    allowed = np.zeros(())
    if tolerance is None:
        tolerance = tolerance_of(expected.dtype, np.count_nonzero(error) / max(expected.size, 100), size)
        allowed = _activation_error(layer, values)
    excess = error - allowed
    worst = np.unravel_index(int(np.argmax(excess)), error.shape) if error.size else ()  # NaN if any is
    largest, there = (float(np.broadcast_to(part, error.shape)[worst]) if error.size else 0.0
                      for part in (error, allowed))  # fmt: skip
    return Agreement(
        node=layer.name, function=bound.name, descriptor=bound.descriptor,
        max_abs=float(np.max(error, initial=0.0)), range=span,
        relative=largest / size if size else (0.0 if largest <= there else float("inf")),
        tolerance=tolerance + (there / size if size else 0.0),
    )  # fmt: skip


def _activation_error(layer: Layer, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The difference allowed to each element for its activation: either side may err."""
    error = 2 * ACTIVATION_ERRORS.get(values[layer.y].dtype.name, 0.0)
    if layer.spec.act is None or layer.spec.act.exact or not error:
        return np.zeros(())
    x = values[layer.activated] if layer.activated else np.zeros(())
    return error * np.maximum(np.abs(x.astype(np.float64)), 1)


def tolerance_of(dtype: np.dtype, unequal: float, size: float) -> float:
    """Of the error over ``size``. Integers are exact, but for results of 8 bits that lie halfway between two
    and that onnxruntime rounds after other multiplications: one step, in at most 1% of the elements."""
    if dtype.kind in "iu":
        return 1 / size if dtype.itemsize == 1 and unequal <= 0.01 and size else 0.0
    return max(TOLERANCE, 4 * epsilon(dtype.name))
