"""Colours of a report, the same on the page and in its pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvmconv.cli.report.facts import Report, Row

COLOURS = {
    "--ink": "#20242c", "--soft": "#6a717e", "--grid": "#d9dde4", "--paper": "#fefefe", "--accent": "#c0392c",
    "--k0": "#2f6fde", "--k1": "#e07b16", "--k2": "#1c9a5b", "--k3": "#b3429f", "--k4": "#12a0b4",
    "--k5": "#d1495b", "--k6": "#8a6d1f", "--k7": "#6f58c9", "--k8": "#7d8796",
}  # fmt: skip
"""Variables of the style sheet, and what they are in the light page. No two are equal."""

INK, SOFT, GRID, PAPER, ACCENT = list(COLOURS.values())[:5]
_KINDS = ("pointwise", "depthwise", "dense", "block", "copy", "map", "matmul")  # always of the same colours
_OTHERS = 8  # the last colour


def colours(kinds: Sequence[str]) -> dict[str, int]:
    """The number of each kind's colour; the last is for all that are too many."""
    known = {kind: number for number, kind in enumerate(_KINDS) if kind in kinds}
    free = [number for number in range(_OTHERS) if number not in known.values()]
    rest = [kind for kind in kinds if kind not in known]
    return known | dict.fromkeys(rest, _OTHERS) | dict(zip(rest, free, strict=False))


def shades(report: Report) -> Callable[[Row], str]:
    """The colour of each row."""
    numbers = colours(report.kinds())
    return lambda row: COLOURS[f"--k{numbers[row.kind]}"]
