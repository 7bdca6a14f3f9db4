"""Labels of dots, where they cover neither each other nor dots."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tvmconv.cli.report.theme import INK, SOFT

_FAR = 26  # points from which on a line leads to the dot


def place(
    figure: Any, axes: Any, dots: Sequence[tuple[float, float, float]],
    labels: Sequence[tuple[str, float, float]],
) -> None:  # fmt: skip
    """Write each label (text, x, y) beside its dot, the first ones nearest; one without a free place is left
    out. ``dots``: (x, y, points from one side to the other). Limits and scales of ``axes`` have to be
    final."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()
    scale, room = figure.dpi / 72, axes.get_window_extent()
    middles = axes.transData.transform([(x, y) for x, y, _ in dots])
    wide = [size * scale for _, _, size in dots]
    taken = [Bbox.from_bounds(x - size / 2, y - size / 2, size, size)
             for (x, y), size in zip(middles, wide, strict=True)]  # fmt: skip
    legend = axes.get_legend()
    taken += [legend.get_window_extent()] if legend is not None else []
    taken += [text.get_window_extent() for text in axes.texts]
    for text, x, y in labels:
        for dx, dy in _offsets():
            line = {"arrowstyle": "-", "color": SOFT, "linewidth": 0.7, "shrinkB": 3}
            note = axes.annotate(
                text, (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=8.5, color=INK,
                ha="left" if dx > 4 else "right" if dx < -4 else "center", va="center", zorder=4,
                arrowprops=line if math.hypot(dx, dy) >= _FAR else None,
            )  # fmt: skip
            note.update_positions(renderer)
            words = Text.get_window_extent(note)  # without the line to the dot
            inside = (room.x0 <= words.x0 and words.x1 <= room.x1
                      and room.y0 <= words.y0 and words.y1 <= room.y1)  # fmt: skip
            if inside and not any(words.overlaps(other) for other in taken):
                taken.append(words)
                break
            note.remove()


def _offsets() -> Iterator[tuple[float, float]]:
    """Places around a dot, in points, nearest first."""
    for far in (11, 20, 30, 42, 56, 72, 90):
        for angle in (0, 180, 90, 270, 35, 145, 215, 325):
            yield far * math.cos(math.radians(angle)), far * math.sin(math.radians(angle))
