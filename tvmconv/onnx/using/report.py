"""Where a model's time will go: its layers counted and summed by kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tvmconv.onnx.recognising.layers import Extraction, Layer

KINDS = ("dense", "pointwise", "depthwise", "grouped")


@dataclass(frozen=True)
class Kind:
    """The layers of one kind. distinct: different specs; flops, bytes: sums over all layers, of one run."""

    kind: str
    layers: int
    distinct: int
    flops: int
    bytes: int


def by_kind(layers: Sequence[Layer]) -> list[Kind]:
    """One entry for each kind that occurs, and one for "total"."""
    kinds = list(dict.fromkeys([*KINDS, *(layer.spec.kind for layer in layers)]))
    groups = {kind: [layer for layer in layers if layer.spec.kind == kind] for kind in kinds}
    return [_sum(kind, part) for kind, part in {**groups, "total": list(layers)}.items() if part]


def by_spec(layers: Sequence[Layer]) -> dict[str, list[Layer]]:
    """The layers of each descriptor, in the order of the model."""
    groups: dict[str, list[Layer]] = {}
    for layer in layers:
        groups.setdefault(str(layer.spec), []).append(layer)
    return groups


def as_json(found: Extraction) -> dict[str, Any]:
    """An extraction as JSON-able facts, weights left out."""
    return {
        "model": found.model.name,
        "digest": found.model.digest,
        "opset": found.model.opset,
        "shapes": {name: list(shape) for name, shape in found.shapes.items()},
        "layout": found.layout,
        "layers": [_layer(layer) for layer in found.layers],
        "kinds": [asdict(kind) for kind in by_kind(found.layers)],
        "skipped": [asdict(item) for item in found.skipped],
        "left_over": [asdict(item) for item in found.rest],
        "fixed": {name: np.asarray(value).tolist() for name, value in found.fixed.items()},
    }


def _layer(layer: Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "descriptor": str(layer.spec),
        "kind": layer.spec.kind,
        "nodes": list(layer.nodes),
        "inputs": dict(layer.inputs),
        "y": layer.y,
        "constant_weights": layer.constant,
        "flops": layer.spec.flops,
        "bytes": layer.spec.bytes,
    }


def _sum(kind: str, layers: Sequence[Layer]) -> Kind:
    return Kind(
        kind,
        layers=len(layers),
        distinct=len({layer.spec for layer in layers}),
        flops=sum(layer.spec.flops for layer in layers),
        bytes=sum(layer.spec.bytes for layer in layers),
    )
