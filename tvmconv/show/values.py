"""Values inside a model for given inputs: computed by its compiled part, or by the referee."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmconv.compiler.compile import Progress
from tvmconv.formats.logs.lookup import Folders
from tvmconv.network.checking import arguments_of, feeds_of
from tvmconv.network.compiling import compile, read
from tvmconv.network.explaining.parts import part
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.model import Model, Shapes
from tvmconv.onnx.recognising.layers import image_from
from tvmconv.schedules.machines import Target

Array = np.ndarray[Any, Any]


def computed(
    model: Model, value: str, feeds: Mapping[str, Array], shapes: Shapes | None, fixed: Fixed | None,
    target: Target, tuning_logs: Folders | None, progress: Progress | None, referee: bool,
) -> Array:  # fmt: skip
    """A value of the model, as the model has it. The part that makes it is compiled whole and called; with
    ``referee`` it is computed in float64 by NumPy, slowly. Errors as for `tvmconv.network.compile`."""
    if value in model.inputs:
        return np.asarray(feeds[value])
    cut = part(model, value)
    if referee:
        return interpret(import_model(cut, shapes, fixed=fixed), feeds)[value]
    network = read(cut, shapes, fixed=fixed)
    (function,) = compile(network, target, tuning_logs, progress=progress).load().functions.values()
    result = function(*arguments_of(network, feeds_of(network, feeds)))
    made = network.graph.outputs[value]
    return np.asarray(image_from(network.layouts.get(made, "NCHW"), result))
