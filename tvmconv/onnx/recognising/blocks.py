"""Layers in a row as one: blocks of pointwise and depthwise convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tvmconv.base.dtypes import numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.onnx.reading.graph import Graph
from tvmconv.onnx.recognising.layers import Layer
from tvmconv.specs.block import BlockSpec


def joined(graph: Graph, layers: Sequence[Layer]) -> list[Layer]:
    """The layers of a graph, convolutions of floats that make a block joined to one, which has the last one's
    name: where each has constant weights and alone reads what the one before makes."""
    makers, gone, found = {layer.y: layer for layer in layers}, set(), {}

    def before(layer: Layer) -> Layer | None:
        alone = len(graph.consumers(layer.x)) == 1 and layer.x not in graph.outputs
        made = makers.get(layer.x) if alone and layer.inputs.get("residual") != layer.x else None
        return made if made is not None and _is_float(made) else None

    for project in layers:
        depthwise = before(project) if _is_float(project) else None
        if depthwise is None:
            continue
        expand = before(depthwise)
        for first in ([expand] if expand is not None else []) + [None]:
            chain = {"expand": first, "depthwise": depthwise, "project": project}
            block = _block({name: part for name, part in chain.items() if part is not None})
            if block is not None:
                found[project.name] = block
                gone |= {part.name for part in (first, depthwise) if part is not None}
                break
    return [found.get(layer.name, layer) for layer in layers if layer.name not in gone]


def _is_float(layer: Layer) -> bool:
    return layer.spec.family == "conv" and not layer.spec.is_integer and layer.constant


def _block(chain: dict[str, Layer]) -> Layer | None:
    """The block of these layers; None where there is no such."""
    try:
        spec = BlockSpec.of(**{name: layer.spec for name, layer in chain.items()})  # type: ignore[arg-type]
    except SpecError:
        return None
    called = spec.arguments()
    given = {called[name][own]: array
             for name, layer in chain.items() for own, array in layer.weights.items()}  # fmt: skip
    weights = {
        o.name: given[o.name] if o.name in given else np.zeros(o.shape, numpy_dtype(o.dtype))
        for o in spec.weights
    }
    first, project = next(iter(chain.values())), chain["project"]
    nodes = tuple(node for layer in chain.values() for node in layer.nodes)
    return replace(
        project, spec=spec, nodes=nodes, inputs={**project.inputs, "x": first.x}, weights=weights)
