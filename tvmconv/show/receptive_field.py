"""Receptive fields, drawn on the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tvmconv.base.errors import SpecError
from tvmconv.network.explaining.fields import Fields, image_axes
from tvmconv.network.explaining.parts import part, value_of
from tvmconv.network.explaining.sight import Span
from tvmconv.network.importing import import_model
from tvmconv.onnx.reading.branches import Fixed
from tvmconv.onnx.reading.model import Shapes, Source, load
from tvmconv.show.images import Preparation, fed
from tvmconv.show.picture import Picture
from tvmconv.specs.checks import read_integer, read_items
from tvmconv.specs.operators.base import dims_text

_ROOM = 40  # pixels above and around the picture
_MOST_DOTS = 64  # middles of fields that are drawn a dim
_LEAST = 480  # pixels of a picture's longer side


def field(
    source: Source,
    value: str,
    image: Any = None,
    *,
    at: Sequence[int] | None = None,
    preparation: Preparation | None = None,
    inputs: Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    fixed: Fixed | None = None,
) -> Picture:
    """What one element of a value sees of the image, drawn on it as the model has it, resized: the pixels
    that the element depends on (solid), its receptive field where that reaches beyond them (dashed), its
    middle, and the middles of the other elements' fields (dots, as far apart as the jump).

    ``at``: (row, column) of the element, by default the middle one. Without an ``image``, on grey. The others
    as for `maps`. Nothing is compiled. Raises SpecError for arguments that do not fit, Error as
    `tvmconv.network.compile` for models that cannot be read.
    """
    model = load(source)
    name = value_of(model, value, "value")
    graph = import_model(part(model, name), shapes, fixed=fixed)
    given = fed([graph.values[one] for one in graph.inputs], image, inputs, preparation)
    taker, background = graph.values[given.image], given.background
    if background is None:
        background = np.full((*(taker.shape[axis] for axis in image_axes(taker.shape)), 3), 0.85)
    fields, made = Fields(graph, taker.name), graph.outputs[name]
    if made not in fields.seen:
        raise SpecError(f"value: {value!r} does not depend on {taker.name!r}, expected one that does")
    shape = graph.values[made].shape
    element = _element(shape, at, value)
    region = fields.region(made, element)
    spans = None if region is None else [region[axis] for axis in fields.axes]
    text = f"{value}: {dims_text(shape)}, element {_place(shape, element)} sees {_told(spans)}"
    return _drawn(background, fields, made, element, spans, text)


def _element(shape: tuple[int, ...], at: Sequence[int] | None, value: str) -> tuple[int, ...]:
    axes, element = image_axes(shape), [0] * len(shape)
    if at is None:
        for axis in axes:
            element[axis] = shape[axis] // 2
        return tuple(element)
    places = read_items(at)
    if places is None or len(places) != len(axes):
        dims = dims_text([shape[axis] for axis in axes]) if axes else "nothing"
        raise SpecError(f"at: {at}, expected {len(axes)} numbers: a place in {dims}, as {value!r} has it")
    for axis, place in zip(axes, places, strict=True):
        element[axis] = read_integer("at", place, 0)
        if element[axis] >= shape[axis]:
            raise SpecError(f"at: {tuple(places)}, expected a place in {dims_text([shape[a] for a in axes])}")
    return tuple(element)


def _place(shape: tuple[int, ...], element: tuple[int, ...]) -> str:
    return ", ".join(str(element[axis]) for axis in image_axes(shape)) or "0"


def _told(spans: Sequence[Span] | None) -> str:
    if spans is None:
        return "nothing"
    (top, bottom), (left, right) = spans
    return f"rows {top} to {bottom}, columns {left} to {right}"


def _drawn(
    background: np.ndarray[Any, Any], fields: Fields, value: str, element: tuple[int, ...],
    spans: Sequence[Span] | None, text: str,
) -> Picture:  # fmt: skip
    from matplotlib.patches import Rectangle

    seen, shape = fields.seen[value], fields.graph.values[value].shape
    sizes = background.shape[:2]
    whole = [seen[axis].sight.at(element[seen[axis].axis]) if axis in seen else None for axis in fields.axes]
    # As much of the padding as the field needs, but never more than the image itself on a side.
    edges = [
        (min(0, max(span[0], -size)), max(size, min(span[1] + 1, 2 * size))) if span else (0, size)
        for span, size in zip(whole, sizes, strict=True)
    ]
    (top, bottom), (left, right) = edges
    zoom = max(1.0, _LEAST / max(bottom - top, right - left))
    high, wide = (bottom - top) * zoom, (right - left) * zoom
    picture = Picture(max(wide, 420) + 2 * _ROOM, high + 2 * _ROOM, text, title=text)
    axes = picture.axes((max(wide, 420) - wide) / 2 + _ROOM, _ROOM, wide, high)
    height, width = sizes
    axes.imshow(background, extent=(0, width, height, 0), interpolation="nearest")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.tick_params(labelsize=6)
    for boxes, style in ((whole, "--"), (spans, "-")):
        if boxes is not None and all(boxes):
            (y0, y1), (x0, x1) = boxes  # type: ignore[misc]
            axes.add_patch(Rectangle((x0, y0), x1 - x0 + 1, y1 - y0 + 1, fill=False, edgecolor="red",
                                     linestyle=style, linewidth=1.5))  # fmt: skip
    if len(seen) == 2:
        middles = [_middles(seen[axis].sight, shape[seen[axis].axis]) for axis in fields.axes]
        y, x = np.meshgrid(*middles, indexing="ij")
        axes.plot(x.ravel(), y.ravel(), linestyle="", marker=".", markersize=2, color="yellow")
    if all(whole):
        y0, x0 = ((first + last + 1) / 2 for first, last in whole)  # type: ignore[misc]
        axes.plot([x0], [y0], linestyle="", marker="+", markersize=9, color="red")
    return picture


def _middles(sight: Any, size: int) -> list[float]:
    step = max(1, -(-size // _MOST_DOTS))
    spans = (sight.at(i) for i in range(0, size, step))
    return [(span[0] + span[1] + 1) / 2 for span in spans if span is not None]
