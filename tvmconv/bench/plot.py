"""The roofline as a picture: operations per second over operations per byte, one point per layer."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tvmconv.base.dtypes import ACCUMULATORS
from tvmconv.base.errors import Error
from tvmconv.bench.own import Line


def check() -> None:
    """Raises Error if the plotting library is missing."""
    if find_spec("matplotlib") is None:
        raise Error("--plot: no module matplotlib; pip install 'tvmconv[bench]'")


def save(path: Path, lines: Sequence[Line], title: str) -> None:
    """Write a PNG (or what the name's suffix says). The slanted lines are the bandwidths of the working sets
    of the smallest and the largest layer; a point on its own roof is as fast as it can be."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    roofline = lines[0].roofline
    intensity = [line.entry["flops"] / line.entry["bytes"] for line in lines]
    sizes = sorted({line.entry["bytes"] for line in lines})
    peaks = {ACCUMULATORS[line.entry["arguments"][0]["dtype"]] for line in lines}
    across = np.geomspace(min([*intensity, 0.5]) / 2, max([*intensity, 50]) * 2, 100)
    top = max(roofline.peak[kind] for kind in peaks)
    for size in dict.fromkeys((sizes[0], sizes[-1])):
        rate = roofline.bandwidth(size)
        axes.plot(across, np.minimum(across * rate, top) / 1e9, color="0.6", linewidth=1)
        axes.annotate(
            f"{rate / 1e9:.0f} GB/s at {size / 1e6:.2g} MB", (across[0], across[0] * rate / 1e9),
            fontsize=8, va="bottom",
        )  # fmt: skip
    for kind in sorted(peaks):
        peak = roofline.peak[kind] / 1e9
        axes.axhline(peak, color="0.6", linewidth=1, linestyle="--")
        axes.annotate(f"{peak:.0f} G/s, {kind}", (across[-1], peak), fontsize=8, ha="right", va="bottom")
    for kind in dict.fromkeys(line.entry["descriptor"].partition(":")[0] for line in lines):
        some = [i for i, line in enumerate(lines) if line.entry["descriptor"].startswith(kind + ":")]
        rates = [lines[i].gflops for i in some]
        axes.scatter([intensity[i] for i in some], rates, s=18, label=kind, zorder=3)
    axes.set(xscale="log", yscale="log", xlabel="operations a byte", ylabel="GFLOP/s", title=title)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)
