"""Many small pictures beside each other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmconv.show.picture import Picture

Array = np.ndarray[Any, Any]

_ROOM = 26  # pixels above: the title
_LEAST = 64  # pixels of a tile, about


def tiled(
    tiles: Array, labels: Sequence[str], text: str, *, columns: int | None = None, colours: str = "viridis"
) -> Picture:
    """Tiles (n, h, w) of numbers from 0 to 1 (NaN: white) or (n, h, w, 3) of colours, with a label each."""
    count, height, width = tiles.shape[:3]
    across = columns or math.ceil(math.sqrt(count * height / width))
    across = min(max(across, 1), count)
    down = -(-count // across)
    gap = max(1, round(max(height, width) / 16))
    sheet = np.full((down * (height + gap), across * (width + gap), *tiles.shape[3:]), np.nan)
    corners = [(i // across * (height + gap), i % across * (width + gap)) for i in range(count)]
    for tile, (top, left) in zip(tiles, corners, strict=True):
        sheet[top : top + height, left : left + width] = tile
    zoom = max(1, round(_LEAST / max(height, width)))
    high, wide = sheet.shape[0] * zoom, sheet.shape[1] * zoom
    picture = Picture(max(wide, 360) + 20, high + _ROOM + 10, text, title=text)
    axes = picture.axes((max(wide, 360) + 20 - wide) / 2, _ROOM, wide, high)
    axes.axis("off")
    if sheet.ndim == 3:
        axes.imshow(np.nan_to_num(sheet, nan=1.0), interpolation="nearest", aspect="auto")
    else:
        axes.imshow(sheet, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="auto")
    for label, (top, left) in zip(labels, corners, strict=True):
        axes.text(left, top, label, fontsize=6, ha="left", va="top", color="black", parse_math=False,
                  bbox={"facecolor": "white", "alpha": 0.6, "pad": 0.5, "linewidth": 0})  # fmt: skip
    return picture


def matrix(array: Array, text: str, across: str, down: str, *, centred: bool) -> Picture:
    """A matrix as a picture with a scale of its colours; centred: white is 0."""
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    if centred:
        low, high = -max(abs(low), abs(high)), max(abs(low), abs(high))
    picture = Picture(640, 480, text, title=text)
    axes = picture.axes(60, 40, 480, 390)
    shown = axes.imshow(array, cmap="RdBu" if centred else "viridis", vmin=low, vmax=high,
                        interpolation="nearest", aspect="auto")  # fmt: skip
    axes.set_xlabel(across)
    axes.set_ylabel(down)
    axes.figure.colorbar(shown, cax=picture.axes(560, 40, 16, 390))
    return picture


def bars(values: Array, text: str) -> Picture:
    """Numbers as bars, the largest five with their places."""
    picture = Picture(720, 320, text, title=text)
    axes = picture.axes(60, 40, 640, 230)
    places = np.arange(len(values))
    axes.vlines(places, 0, values, linewidth=max(0.5, min(6.0, 400 / max(1, len(values)))))
    axes.axhline(0, color="black", linewidth=0.5)
    for place in np.argsort(-np.nan_to_num(values, nan=-np.inf))[:5]:
        axes.annotate(str(place), (place, values[place]), fontsize=7, ha="center", va="bottom")
    axes.set_xlabel("element")
    return picture


def scaled(array: Array, low: Any, high: Any) -> Array:
    """Numbers as parts of the way from low to high; a half where both are the same."""
    span = np.asarray(high - low, np.float64)
    return np.where(span > 0, (array - low) / np.where(span > 0, span, 1), 0.5)
