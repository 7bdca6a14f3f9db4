"""Feature maps: what a value of a model is for an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.base.dtypes import widened
from tvmconv.base.errors import SpecError
from tvmconv.compiler.compile import Progress
from tvmconv.formats.logs.lookup import Folders
from tvmconv.network.explaining.fields import image_axes
from tvmconv.network.explaining.parts import part, value_of
from tvmconv.network.importing import import_model
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.model import Shapes, Source, load
from tvmconv.schedules.machines import Target
from tvmconv.show.images import Preparation, fed
from tvmconv.show.picture import Picture
from tvmconv.show.tiles import bars, matrix, scaled, tiled
from tvmconv.show.values import computed
from tvmconv.specs.checks import read_integer
from tvmconv.specs.operators.base import dims_text

Array = np.ndarray[Any, Any]


def maps(
    source: Source,
    value: str,
    image: Any = None,
    *,
    preparation: Preparation | None = None,
    inputs: Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    fixed: Fixed | None = None,
    most: int = 64,
    together: bool = False,
    target: Target = "native",
    tuning_logs: Folders | None = None,
    progress: Progress | None = None,
    referee: bool = False,
) -> Picture:
    """A picture of a value of a model for an image: a tile a channel where it is an image, each from its own
    least number (dark) to its largest (bright), or all on one scale (``together``); the middle slice of a
    volume; rows of sequences as a matrix; bars where it is a vector. Of a batch the first.

    ``value``: its name, or that of a node. ``image``: for the model's first input that takes images: a file
    that Pillow reads, resized and then treated as `Preparation` says; a .npy file, or an array, of the
    input's shape and type. ``inputs``: the same by name. ``most``: channels that are shown. ``shapes``,
    ``fixed``, ``target``, ``tuning_logs``, ``progress``: as for `tvmconv.network.compile`; ``referee``:
    not compiled but computed in NumPy, in float64. Raises SpecError for arguments that do not
    fit, errors as `compile`.
    """
    array = value_for(source, value, image, preparation=preparation, inputs=inputs, shapes=shapes,
                      fixed=fixed, target=target, tuning_logs=tuning_logs, progress=progress,
                      referee=referee)  # fmt: skip
    return drawn(array, value, read_integer("most", most, 1), together)


def value_for(
    source: Source, value: str, image: Any = None, *, preparation: Preparation | None = None,
    inputs: Mapping[str, Any] | None = None, shapes: Shapes | None = None, fixed: Fixed | None = None,
    target: Target = "native", tuning_logs: Folders | None = None, progress: Progress | None = None,
    referee: bool = False,
) -> Array:  # fmt: skip
    """The numbers behind `maps`, as the model has them; arguments and errors as there."""
    model = load(source)
    name = value_of(model, value, "value")
    graph = import_model(part(model, name), shapes, fixed=fixed)
    feeds = fed([graph.values[one] for one in graph.inputs], image, inputs, preparation).feeds
    return computed(model, name, feeds, shapes, fixed, target, tuning_logs, progress, referee)


def drawn(array: Array, name: str, most: int, together: bool) -> Picture:
    """The picture of a value. Raises SpecError for one that no picture can show."""
    text = f"{name}: {dims_text(array.shape)}"
    if not array.size or array.ndim > 5:
        raise SpecError(f"value: {text}, expected 1 to 5 dims and something in them")
    numbers = widened(array).astype(np.float64)
    numbers = numbers.reshape(1) if numbers.ndim == 0 else numbers[0] if numbers.ndim > 1 else numbers
    text += f", from {np.min(numbers):.3g} to {np.max(numbers):.3g}"
    if numbers.ndim == 1:
        return bars(numbers, text)
    if numbers.ndim == 2:
        return matrix(numbers, text, "last axis", "axis before", centred=False)
    if image_axes(array.shape) == (1, 2):  # channels-last
        numbers = np.moveaxis(numbers, -1, 0)
    if numbers.ndim == 4:
        numbers = numbers[:, numbers.shape[1] // 2]
        text += ", middle slice"
    shown = numbers[:most]
    if len(shown) < len(numbers):
        text += f"; the first {len(shown)} channels"
    ends = (shown.min(), shown.max()) if together else (
        shown.min((1, 2), keepdims=True), shown.max((1, 2), keepdims=True)
    )  # fmt: skip
    return tiled(scaled(shown, *ends), [str(channel) for channel in range(len(shown))], text)
