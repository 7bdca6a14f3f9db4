"""The pictures of a report, by matplotlib: each as a PNG, and as SVG for the page, wide and narrow.

The page has them in light and dark: colours here are of the light one, and in SVG become its style sheet's
variables.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

from tvmconv.base.errors import Error
from tvmconv.cli.report import drawings
from tvmconv.cli.report.facts import Report, Row
from tvmconv.cli.report.theme import COLOURS, GRID, INK, PAPER, SOFT

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline

_WIDE, _NARROW = (10.5, 5.2), (4.4, 4.6)  # inches


class Picture(NamedTuple):
    """``name``: of its file. ``wide``, ``narrow``: SVG."""

    name: str
    wide: str
    narrow: str
    png: bytes


def check(what: str = "report", extra: str = "report") -> None:
    """Raises Error if the plotting library is missing."""
    if find_spec("matplotlib") is None:
        raise Error(f"{what}: no module matplotlib; pip install 'tvmconv[{extra}]'")


def pictures(report: Report) -> dict[str, Picture]:
    """Those that there is something for: "time", "roofline", "memory", "tuning"."""
    found: dict[str, Callable[[Any, bool], None]] = {}
    found["time"] = lambda f, narrow: drawings.time(f, report, narrow)
    if report.roofline is not None and any(row.flops for row in report.rows):
        found["roofline"] = lambda f, narrow: drawings.roofline(f, report, narrow)
    if report.buffers:
        found["memory"] = lambda f, narrow: drawings.memory(f, report, narrow)
    if curves := drawings.curves_of(report):
        found["tuning"] = lambda f, narrow: drawings.tuning(f, curves, narrow)
    return {name: _picture(name, draw, len(curves)) for name, draw in found.items()}


def roofline(rows: Sequence[Row], limits: Roofline, cpu: str) -> bytes:
    """The picture of a roofline alone, a PNG."""
    report = Report("", None, "", cpu, limits.threads, rows, limits, {}, 0)
    return _picture("roofline", lambda f, narrow: drawings.roofline(f, report, narrow), 0).png


def _picture(name: str, draw: Callable[[Any, bool], None], curves: int) -> Picture:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: dict[Any, Any] = {
        "svg.fonttype": "none", "svg.hashsalt": name, "font.size": 10.5, "text.color": INK,
        "axes.edgecolor": SOFT, "axes.labelcolor": INK, "xtick.color": SOFT, "ytick.color": SOFT,
        "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": PAPER,
        "figure.facecolor": PAPER, "axes.grid": True, "grid.color": GRID, "grid.linewidth": 0.6,
        "axes.axisbelow": True, "axes.titlesize": 11, "legend.frameon": False,
    }  # fmt: skip
    made: list[str] = []
    png = io.BytesIO()
    with plt.rc_context(style):
        for narrow in (False, True):
            width, height = _NARROW if narrow else _WIDE
            if name == "tuning":
                rows = math.ceil(curves / (1 if narrow else min(3, curves)))
                height = (2.3 if curves > 2 or narrow else 3.4) * rows + 0.3
            figure = plt.figure(figsize=(width, height), layout="constrained")
            try:
                draw(figure, narrow)
                text = io.StringIO()
                figure.savefig(text, format="svg", metadata={"Date": None})
                made.append(_themed(text.getvalue(), f"{name}-{'narrow' if narrow else 'wide'}"))
                if not narrow:
                    figure.savefig(png, format="png", dpi=150, metadata={"Software": "tvmconv"})
            finally:
                plt.close(figure)
    wide, narrow_one = made
    return Picture(name, wide, narrow_one, png.getvalue())


def _themed(svg: str, name: str) -> str:
    """SVG for the inside of a page: the page's colours and font, and ids that no other picture has."""
    svg = svg[svg.index("<svg") :]
    for variable, colour in COLOURS.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"'DejaVu Sans'[^;\"]*", "system-ui, sans-serif", svg)
    svg = re.sub(r'\bid="(?!at-)([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'\bid="at-([^"]+)"', r'data-at="\1" class="at"', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    return re.sub(r'<svg [^>]*?(viewBox="[^"]+")[^>]*>', r'<svg \1 xmlns:xlink="http://www.w3.org/1999/xlink">',
                  svg, count=1)  # fmt: skip
