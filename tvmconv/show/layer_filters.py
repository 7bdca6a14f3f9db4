"""Filters: the weights of a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tvmconv.base.dtypes import widened
from tvmconv.base.errors import SpecError
from tvmconv.network.explaining.parts import value_of
from tvmconv.onnx.reading.model import Model, Source, load
from tvmconv.show.picture import Picture
from tvmconv.show.tiles import matrix, scaled, tiled
from tvmconv.specs.checks import read_integer
from tvmconv.specs.operators.base import dims_text

if TYPE_CHECKING:
    from onnx import NodeProto

Array = np.ndarray[Any, Any]

PLACES = {
    "Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "DeformConv": 1,
    "Gemm": 1, "MatMul": 1,
}  # fmt: skip
"""Where nodes have their weights."""

_MOST_ROWS = 32  # filters, and channels of each, where every pair is a tile


def filters(source: Source, layer: str, *, most: int = 64) -> Picture:
    """A picture of a layer's weights, as the model has them: a tile a filter, in colours where it reads three
    channels (grey is 0); a row a filter and a tile a channel otherwise (white is 0, blue above, red below);
    the middle slice of filters of volumes; a matrix where filters are single points, or for a product.

    ``layer``: a node, or the value that it makes. ``most``: filters that are shown, and channels of each.
    Raises SpecError for a layer that is not there or has no weights of its own.
    """
    read_integer("most", most, 1)
    w = weights_of(load(source), layer)
    size = float(np.max(np.abs(w), initial=0.0))
    text = f"{layer}: {dims_text(w.shape)}, up to {size:.3g}"
    if w.ndim == 2 or set(w.shape[2:]) == {1}:
        return matrix(w.reshape(w.shape[:2]), text, "input channel", "output channel", centred=True)
    if w.ndim == 5:
        w, text = w[:, :, w.shape[2] // 2], f"{text}, middle slice"
    if w.ndim == 3:
        w = w[:, :, None]
    single, coloured = w.shape[1] == 1, w.shape[1] == 3
    most = most if single or coloured else min(most, _MOST_ROWS)
    for axis, what in ((0, "filters"), (1, "channels")):
        if w.shape[axis] > most and not (coloured and axis):
            w, text = np.take(w, range(most), axis), f"{text}; the first {most} {what}"
    if coloured:
        largest = np.abs(w).max((1, 2, 3), keepdims=True)
        tiles = np.moveaxis(scaled(w, -largest, largest), 1, -1)
        return tiled(tiles, [str(number) for number in range(len(w))], text)
    names = [str(i) if single else f"{i}, {channel}" for i, channel in np.ndindex(w.shape[:2])]
    tiles = scaled(w.reshape(-1, *w.shape[2:]), -size, size)
    return tiled(tiles, names, text, columns=None if single else w.shape[1], colours="RdBu")


def weights_of(model: Model, layer: str) -> Array:
    """A layer's weights (out, in a group, *kernel), of a product (out, in). Raises SpecError."""
    value = value_of(model, layer, "layer")
    node = model.graph.producer(value)
    place = PLACES.get(node.op_type) if node is not None else None
    if node is None or place is None:
        what = "an input" if node is None else node.op_type
        raise SpecError(f"layer: {layer!r} is {what}, expected one of {', '.join(PLACES)}")
    array = model.graph.constant(node.input[place])
    if array is None:
        raise SpecError(f"layer: {layer!r}: its weights are computed, expected constant ones")
    w = widened(np.asarray(array)).astype(np.float64)
    if node.op_type == "ConvTranspose" or _rows_are_inputs(node):
        w = np.swapaxes(w, 0, 1)
    if w.ndim < 2:
        raise SpecError(f"layer: {layer!r}: weights of shape {w.shape}, expected 2 dims or more")
    return w


def _rows_are_inputs(node: NodeProto) -> bool:
    if node.op_type == "Gemm":
        return not any(one.name == "transB" and one.i for one in node.attribute)
    return node.op_type == "MatMul"
