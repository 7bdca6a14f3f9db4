"""How long a model's layers take: with a library, and in onnxruntime by its own profiler."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from tvmconv.base.clock import timed
from tvmconv.base.cpus import available
from tvmconv.onnx.reading.session import open_session, require_runtime
from tvmconv.onnx.recognising.layers import Extraction, Layer
from tvmconv.onnx.using.agreement import arriving, bind, feeds_of
from tvmconv.runtime.arrays import aligned

if TYPE_CHECKING:
    from tvmconv.runtime import Module

_SUFFIX = "_kernel_time"  # of the profiler's events that are a node's computation
_FUSED = re.compile(r"_token_\d+$")  # what an optimised quantised model adds to a node's name
_REORDERS = ("ReorderInput", "ReorderOutput")  # between onnxruntime's own blocked layout and the model's


@dataclass(frozen=True)
class RuntimeTimes:
    """Seconds in one run of onnxruntime, medians. layers: of each layer, its activation's nodes included.
    reorders: spent, beside them, on bringing images into the layout of its convolutions and back."""

    layers: dict[str, float]
    reorders: float


def library_times(
    found: Extraction,
    module: Module,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    repeat: int = 30,
) -> dict[str, float]:
    """Seconds of each layer with the library's functions, by name: the median of `repeat` passes through all
    layers in the model's order, on the activations that arrive at them, results written to arrays that exist.
    """
    values = arriving(found, feeds_of(found, inputs))
    calls = []
    for layer, bound, inputs in bind(module, found, values):
        placed = [aligned(array) for array in inputs]  # as the preceding layer would leave them
        calls.append((layer.name, bound, placed, bound(*placed)))
    times: dict[str, list[float]] = {name: [] for name, *_ in calls}
    for _ in range(repeat):
        for name, bound, inputs, y in calls:
            times[name].append(timed(partial(bound, *inputs, out=y), 1))
    return {name: median(seconds) for name, seconds in times.items()}


def runtime_times(
    found: Extraction,
    inputs: np.ndarray | Mapping[str, np.ndarray],
    *,
    repeat: int = 30,
    threads: int | None = None,
) -> RuntimeTimes:
    """Seconds of each layer in onnxruntime, as its profiler states them, graph optimisations on.

    threads: for its operators; None for as many as this process has CPUs.
    """
    feeds = feeds_of(found, inputs)
    options = require_runtime().SessionOptions()
    options.intra_op_num_threads = threads or available()
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        session = open_session(found.model, options=options)
        for _ in range(repeat + 1):  # the first one warms up
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    del session  # its threads end, leaving the CPUs to what is timed next
    nodes, reorders = _medians(events)
    layers = {layer.name: _seconds(found, layer, nodes) for layer in found.layers}
    return RuntimeTimes(layers, reorders)


def _medians(events: list[dict]) -> tuple[dict[str, float], float]:
    """Median seconds of each node, and of all reorders together."""
    times: dict[str, list[float]] = {}
    reorders = set()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            name = _FUSED.sub("", event["name"][: -len(_SUFFIX)])
            times.setdefault(name, []).append(event["dur"] * 1e-6)
            if event["args"].get("op_name") in _REORDERS:
                reorders.add(name)
    medians = {name: median(seconds[1:] or seconds) for name, seconds in times.items()}
    return medians, sum(medians[name] for name in reorders)


def _seconds(found: Extraction, layer: Layer, nodes: Mapping[str, float]) -> float:
    """The time of a layer's nodes; fused ones go by the name of one of them, or of the value they make."""
    names = set(layer.nodes)
    for node in found.model.graph.nodes:
        if node.name in layer.nodes:
            names |= {f"{value}_nchwc" for value in node.output} | {f"{node.name}_nchwc"}
    return sum(seconds for name, seconds in nodes.items() if name in names)
