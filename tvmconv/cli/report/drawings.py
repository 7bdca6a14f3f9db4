"""What the pictures of a report show, drawn with matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from tvmconv.cli.report.facts import Buffer, Curve, Report, Row
from tvmconv.cli.report.labels import place
from tvmconv.cli.report.theme import ACCENT, COLOURS, INK, PAPER, SOFT, colours, shades

_NAMED = 8  # dots of the roofline that have a label
_CURVES = 12


def _legend(axes: Any, report: Report, kinds: Sequence[str], **where: Any) -> None:
    from matplotlib.patches import Patch

    numbers = colours(report.kinds())
    shown: dict[int, list[str]] = {}
    for kind in kinds:
        shown.setdefault(numbers[kind], []).append(kind)
    patches = [
        Patch(color=COLOURS[f"--k{number}"], label=names[0] if len(names) == 1 else "others")
        for number, names in sorted(shown.items())
    ]
    axes.legend(handles=patches, fontsize=9, **where)


def time(figure: Any, report: Report, narrow: bool) -> None:
    """A bar a row, in order; on it, how little it could take."""
    axes, shade = figure.subplots(), shades(report)
    scale, unit = (1e3, "ms") if max(row.all_us for row in report.rows) >= 1000 else (1.0, "µs")
    for number, row in enumerate(report.rows, 1):
        (bar,) = axes.bar([number], [row.all_us / scale], width=0.85, color=shade(row))
        bar.set_gid(f"at-{number}")
        if row.roof_us is not None:
            least = row.count * row.roof_us / scale
            axes.plot([number - 0.42, number + 0.42], [least, least], color=INK, linewidth=1.4)
    axes.set_xlim(0.4, len(report.rows) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(visible=False, axis="x")
    what = "step" if report.network else "layer"
    axes.set(xlabel=f"{what}, in order", ylabel=unit)
    if report.roofline is not None:
        axes.plot([], [], color=INK, linewidth=1.4, label="the least, by the roofline")
    _legend(axes, report, report.kinds(), ncols=1 if narrow else 2)
    axes.set_title(_where(report, narrow), loc="left", color=SOFT)


def _where(report: Report, narrow: bool) -> str:
    text = f"{report.cpu}, {report.threads} thread{'s' * (report.threads != 1)}"
    return text if not narrow or len(text) < 44 else text[:43] + "…"


def roofline(figure: Any, report: Report, narrow: bool) -> None:
    """A dot a row with operations, its area by its time; the slanted lines are what memory allows of the
    smallest and the largest working set."""
    import numpy as np

    roofline, shade = report.roofline, shades(report)
    assert roofline is not None
    rows = [(number, row) for number, row in enumerate(report.rows, 1) if row.flops]
    axes = figure.subplots()
    intensity = [row.intensity for _, row in rows]
    across = np.geomspace(min([*intensity, 0.5]) / 2, max([*intensity, 50]) * 2, 100)
    top = max(roofline.peak.values())
    sizes = sorted(row.bytes for _, row in rows)
    rates = [roofline.bandwidth(size) for size in (sizes[0], sizes[-1])]
    for size in dict.fromkeys((sizes[0], sizes[-1])):
        rate = roofline.bandwidth(size)
        axes.plot(across, np.minimum(across * rate, top) / 1e9, color=SOFT, linewidth=1.2)
        above = rate == max(rates)
        at = across[28 if above else 12]
        axes.annotate(
            f"{rate / 1e9:.0f} GB/s for {_size(size)}", (at, min(at * rate, top) / 1e9), fontsize=8.5,
            color=SOFT, xytext=(-5, 3) if above else (5, -3), textcoords="offset points",
            ha="right" if above else "left", va="bottom" if above else "top",
        )  # fmt: skip
    for kind, peak in sorted(roofline.peak.items()):
        axes.axhline(peak / 1e9, color=SOFT, linewidth=1.2, linestyle="--")
        axes.annotate(f"{peak / 1e9:.0f} G/s, {kind}", (across[-1], peak / 1e9), fontsize=8.5, color=SOFT,
                      ha="right", va="bottom")  # fmt: skip
    longest = max(row.all_us for _, row in rows)
    for number, row in sorted(rows, key=lambda each: -each[1].all_us):
        area = _area(row, longest)
        dot = axes.scatter([row.intensity], [row.gflops], s=area, color=shade(row), alpha=0.85,
                           edgecolor=PAPER, linewidth=0.8, zorder=3)  # fmt: skip
        dot.set_gid(f"at-{number}")
    named = sorted(rows, key=lambda each: -each[1].all_us)[: _NAMED // (2 if narrow else 1)]
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:g}")
    _legend(axes, report, [kind for kind in report.kinds() if any(row.kind == kind for _, row in rows)],
            loc="lower right")  # fmt: skip
    axes.set_title(_where(report, narrow), loc="left", color=SOFT)
    place(figure, axes, [(row.intensity, row.gflops, math.sqrt(_area(row, longest))) for _, row in rows],
          [(f"{number}" if narrow else f"{number} {row.name[-34:]}", row.intensity, row.gflops)
           for number, row in named])  # fmt: skip


def _area(row: Row, longest: float) -> float:
    """Of a dot, in square points."""
    return 18 + 260 * row.all_us / longest


def _size(count: int) -> str:
    return f"{count / 1e6:.2g} MB" if count >= 1e5 else f"{count / 1e3:.2g} kB"


def memory(figure: Any, report: Report, narrow: bool) -> None:
    """What lies where in the workspace, step by step; a buffer has the colour of the step that makes it."""
    from matplotlib.patches import Rectangle

    axes, shade = figure.subplots(), shades(report)
    steps = len(report.rows)
    scale, unit = (1e6, "MB") if report.workspace >= 1e6 else (1e3, "kB")
    for buffer in report.buffers:
        first = report.rows[min(buffer.first, steps) - 1]
        box = Rectangle(
            (buffer.first - 0.5, buffer.offset / scale), buffer.last - buffer.first + 1, buffer.bytes / scale,
            facecolor=shade(first), edgecolor=PAPER, linewidth=0.6, alpha=0.9,
        )  # fmt: skip
        box.set_gid(f"at-{buffer.first}")
        axes.add_patch(box)
    numbers = range(1, steps + 1)
    held = [sum(one.bytes for one in _alive(report.buffers, number)) / scale for number in numbers]
    edges = [number + 0.5 for number in range(steps + 1)]
    axes.stairs(held, edges, color=INK, linewidth=1.3, label="in use")
    axes.set(xlim=(0.4, steps + 0.6), ylim=(0, report.workspace / scale * 1.12), xlabel="step",
             ylabel=f"{unit} of the workspace")  # fmt: skip
    axes.axhline(report.workspace / scale, color=ACCENT, linewidth=1.1, linestyle="--")
    axes.annotate(f"{report.workspace / scale:.3g} {unit} in all", (steps + 0.5, report.workspace / scale),
                  fontsize=9, color=ACCENT, ha="right", va="bottom")  # fmt: skip
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title("the line: bytes in use", loc="left", color=SOFT)


def _alive(buffers: Sequence[Buffer], step: int) -> Iterator[Buffer]:
    return (buffer for buffer in buffers if buffer.first <= step <= buffer.last)


def curves_of(report: Report) -> list[tuple[str, Curve]]:
    """Of the kernels that take longest."""
    groups = report.by_kernel()
    found = [(group.rows[0][1].name, report.curves[group.title]) for group in groups
             if group.title in report.curves]  # fmt: skip
    return found[:_CURVES]


def tuning(figure: Any, curves: Sequence[tuple[str, Curve]], narrow: bool) -> None:
    """Trials in order, and the best so far."""
    columns = 1 if narrow else min(3, len(curves))
    rows = math.ceil(len(curves) / columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, (name, curve) in zip(grid.flat, curves, strict=False):
        trials = [(n, s * 1e6) for n, s in enumerate(curve.seconds, 1) if s is not None]
        axes.scatter([n for n, _ in trials], [s for _, s in trials], s=18, color=COLOURS["--k0"], alpha=0.55,
                     linewidth=0)  # fmt: skip
        best = [(n, s * 1e6) for n, s in enumerate(curve.best, 1) if s is not None]
        axes.step([n for n, _ in best], [s for _, s in best], where="post", color=COLOURS["--k1"],
                  linewidth=1.8)  # fmt: skip
        if curve.default is not None:
            axes.axhline(curve.default * 1e6, color=SOFT, linewidth=1, linestyle="--")
        least = best[-1][1] if best else 1.0
        highest = max([curve.default * 1e6 if curve.default else 0.0, 2.5 * least])
        axes.set_ylim(0, highest * 1.1)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(name[:40], loc="left")
        axes.set(xlabel="trial", ylabel="µs")
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_visible(False)
