"""Does a library of a whole network compute what onnxruntime does, and if not, from which step on?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import epsilon, name_of, widened
from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.frontends.verify import ACTIVATION_ERRORS
from tvmconv.network.compiling import Network, read
from tvmconv.network.graph import Graph, Node
from tvmconv.network.interpret import interpret
from tvmconv.onnx.reading.branches import specialised
from tvmconv.onnx.reading.model import Model, Source, load
from tvmconv.onnx.reading.session import observe, random_feeds, run
from tvmconv.onnx.recognising.layers import image_from, image_in
from tvmconv.onnx.using.agreement import tolerance_of
from tvmconv.runtime.steps import Steps
from tvmconv.specs.activations import ACTIVATIONS
from tvmconv.specs.operators import Copy, Layer, Map

if TYPE_CHECKING:
    from tvmconv.runtime import Module

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Difference:
    """A result, or a step's, compared. name: of the value. max_abs: the largest error. range: largest minus
    smallest of what is right. relative: the error over range (over the largest value where all are equal).
    tolerance: the largest that passes."""

    name: str
    max_abs: float
    range: float
    relative: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether they agree; NaN does not."""
        return self.relative <= self.tolerance


@dataclass(frozen=True)
class Deviation:
    """The first step that deviates. number: from 1 on, of so many steps. source: the model's nodes that it
    comes from. descriptor: what it computes. difference: how far it is off."""

    number: int
    steps: int
    source: str
    descriptor: str
    difference: Difference


def networks_of(module: Module, source: Source | Model) -> dict[str, Network]:
    """The network that each function of a library was compiled from, read again. Raises ArtifactError for
    another model's."""
    about = module.manifest.get("onnx")
    if about is None or not about.get("whole"):
        raise ArtifactError(
            f"library: {module.path} is not of a whole network, expected one by compile --onnx MODEL --whole"
        )
    model = load(source)
    if model.digest != about["digest"]:
        raise ArtifactError(
            f"library: {module.path} was compiled from another model ({about['model']}, SHA-256 "
            f"{about['digest'][:16]}...), expected {model.name} ({model.digest[:16]}...)"
        )
    fixed, layout = about.get("fixed"), about["layout"]
    return {
        entry["name"]: read(model, entry.get("model_shapes", about["shapes"]), fixed=fixed, layout=layout)
        for entry in module.manifest["functions"]
    }


def feeds_of(network: Network, inputs: Mapping[str, Any] | None = None, seed: int = 0) -> dict[str, Array]:
    """The model's inputs by name, as the model has them: given, or random. Raises SpecError."""
    model, _ = specialised(network.model, network.shapes, network.fixed)
    if inputs is None:
        return random_feeds(model, network.shapes, seed)
    for name in inputs:
        if name not in network.shapes:
            raise SpecError(f"input {name!r}: {network.model.name} takes {', '.join(network.shapes)}")
    feeds = {name: np.asarray(array) for name, array in inputs.items()}
    for name, shape in network.shapes.items():
        if name not in feeds:
            raise SpecError(f"input {name!r}: missing, expected {', '.join(network.shapes)}")
        if feeds[name].shape != tuple(shape):
            raise SpecError(f"input {name!r}: shape {feeds[name].shape}, expected {tuple(shape)}")
    return feeds


def compare(
    network: Network, module: Module, feeds: Mapping[str, Array], tolerance: float | None = None,
    name: str | None = None,
) -> list[Difference]:  # fmt: skip
    """Each result of the library's function ``name`` (None: the only one) against onnxruntime's. ``feeds``:
    the model's inputs, as the model has them. ``tolerance``: of the error over the result's range; None for
    what rounding in its type may cause; where that is not enough, four times what onnxruntime's own
    optimisations change, or what it changes when the last bit of each number that it is fed does.
    Raises Error where onnxruntime cannot run the model, SpecError for feeds that do not fit."""
    model, _ = specialised(network.model, network.shapes, network.fixed)
    names = [name for name in network.graph.outputs if _is_computed(model, name)]
    values = observe(model, feeds, names)
    (only,) = module.functions if name is None else (name,)
    results = module[only](*arguments_of(network, feeds))
    several = results if isinstance(results, tuple) else (results,)
    found = []
    for public, result in zip(network.graph.outputs, several, strict=True):
        known = values[public] if public in values else model.graph.constant(public)
        value = network.graph.outputs[public]
        own = image_from(network.layouts.get(value, "NCHW"), result)
        rounding = activation_error(network.graph, value) if tolerance is None else 0.0
        found.append(difference(public, own, known, tolerance, rounding))
    if tolerance is None and not all(one.ok for one in found):
        again = run(model, feeds, names, optimised=True)
        found = [_with_rounding(one, values, again, 4) for one in found]
    for seed in range(_NUDGES if tolerance is None else 0):
        if not all(one.ok for one in found):
            again = observe(model, _nudged(feeds, seed), names)
            found = [_with_rounding(one, values, again, 1) for one in found]
    return found


_NUDGES = 4


def _nudged(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Feeds whose floats are each the next larger or smaller one."""
    rng = np.random.default_rng(seed)

    def nudged(array: Array) -> Array:
        if array.dtype.kind != "f":
            return array
        way = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
        return np.nextafter(array, way)

    return {name: nudged(array) for name, array in feeds.items()}


def _with_rounding(
    one: Difference, values: Mapping[str, Array], again: Mapping[str, Array], times: float
) -> Difference:
    """A difference that may be so many times as large as that between two runs of onnxruntime: where a model
    magnifies rounding, as steep sigmoids and quantisation do, no two orders of summation agree better."""
    if one.name not in again or values[one.name].dtype.kind != "f":
        return one
    by_rounding = times * difference(one.name, again[one.name], values[one.name]).relative
    return replace(one, tolerance=max(one.tolerance, by_rounding)) if math.isfinite(by_rounding) else one


def activation_error(graph: Graph, name: str) -> float:
    """What a value and onnxruntime's may differ by since either rounds the activation that makes it, over
    max(1, its largest value). A sigmoid's range near 0 is far smaller, and says nothing about it."""
    producers = {made: node for node in graph.nodes for made in node.outputs}
    node = producers.get(name)
    while node is not None and isinstance(node.op, Copy):
        node = producers.get(node.inputs[0])
    if node is None:
        return 0.0
    if isinstance(node.op, Layer):
        row = node.op.spec.act
    else:
        row = ACTIVATIONS.get(node.op.tree[0]) if isinstance(node.op, Map) else None
    if row is None or row.exact:
        return 0.0
    return 2 * ACTIVATION_ERRORS.get(graph.type(name).dtype, 0.0)


def arguments_of(network: Network, feeds: Mapping[str, Array]) -> list[Array]:
    """What the library's function takes for the model's inputs."""
    return [image_in(network.layouts.get(name, "NCHW"), feeds[name]) for name in network.graph.inputs]


def difference(
    name: str, found: Array, wanted: Any, tolerance: float | None = None, absolute: float = 0.0
) -> Difference:
    """How far a result is from what is right. ``absolute``: what is allowed besides ``tolerance``, over
    max(1, the largest value)."""
    right = widened(np.asarray(wanted))
    error = np.abs(widened(np.asarray(found)).astype(np.float64) - right.astype(np.float64))
    span = size = 0.0
    if right.size:
        span = float(np.max(right)) - float(np.min(right))
        size = span or float(np.max(np.abs(right)))
    largest = float(np.max(error, initial=0.0))
    if tolerance is None:
        unequal = np.count_nonzero(error) / max(right.size, 100)
        rounding = 4 * epsilon(name_of(np.asarray(found)))
        tolerance = max(tolerance_of(right.dtype, unequal, size), rounding)
    if size:
        tolerance += absolute * max(1.0, float(np.max(np.abs(right)))) / size
    relative = largest / size if size else (0.0 if largest == 0 else float("inf"))
    return Difference(name, largest, span, relative, tolerance)


def first_deviation(
    network: Network, module: Module, name: str, feeds: Mapping[str, Array], tolerance: float | None = None
) -> Deviation | None:
    """The first step of the library's function ``name`` whose result is not what the network's referee, in
    float64, has there; None if there is none. The steps run as they are in the library, one after the other
    in one workspace. Raises ArtifactError for a library whose steps are not this network's."""
    given = arguments_of(network, feeds)
    steps = Steps(module, name, *given)
    made: dict[str, tuple[int, Array]] = {}
    for number in range(len(steps)):
        steps.run(number, number + 1)
        made |= {value: (number, array) for value, array in steps.results(number).items()}
    found: list[tuple[int, Difference]] = []

    def compared(node: Node, results: Sequence[Array]) -> None:
        for value, right in zip(node.outputs, results, strict=True):
            if value in made and made[value][1].size == np.size(right):
                number, array = made.pop(value)  # in the shape of the caller's array, where it is one
                rounding = activation_error(network.graph, value) if tolerance is None else 0.0
                one = difference(value, array.reshape(np.shape(right)), right, tolerance, rounding)
                found.extend([] if one.ok else [(number, one)])

    interpret(network.graph, dict(zip(network.graph.inputs, given, strict=True)), seen=compared)
    if made:
        value, (number, array) = next(iter(made.items()))
        raise ArtifactError(
            f"library: {module.path}: step {number + 1} makes {value} {array.shape}, expected a value of the "
            f"network as tvmconv reads it now (it was made by {module.manifest['tvmconv']}); compile it again"
        )
    if not found:
        return None
    number, one = min(found, key=lambda each: (each[0], -each[1].relative))
    facts = steps.facts[number]
    source = ", ".join(facts["source"]) or one.name
    return Deviation(number + 1, len(steps), source, facts["descriptor"], one)


def _is_computed(model: Model, name: str) -> bool:
    """Whether a value can be seen in a run: an initialiser cannot."""
    return name in model.inputs or model.graph.producer(name) is not None
