"""Timed layers beside the peers that take their layout, and beside the machine's limits."""

from __future__ import annotations

from collections.abc import Iterator

from tvmconv.bench.ratios import OURS

_ENOUGH = 85  # percent of the nearer limit
_TAKE = {"NCHW": ("torch", "ort", "openvino"), "NHWC": ("torch-cl", "onednn", "litert", "openvino")}


def show_by_layout(layers: list[dict]) -> None:
    """A line per layer of a table: ratio to the best engine of its layout, percentage of the nearer limit.
    Then how many are at 1.00 or above, or within 85% of that limit."""
    width = max(len(layer["descriptor"]) for layer in layers)
    print(f"\n{'the best that takes its layout':{width}} {'ratio':>6} {'limit %':>8}")
    counts = {"ahead": 0, "at the limit": 0, "behind": 0}
    for layer in layers:
        peers = dict(_peers(layer))
        best = min(peers, key=lambda name: peers[name], default=None)
        ratio = None if best is None else peers[best] / layer["engines"][OURS]["us"]
        limits = (layer["goal"][name] for name in ("fma_percent", "copy_percent"))
        limit = max((percent for percent in limits if percent is not None), default=None)
        if ratio is None or ratio >= 1:
            found = "ahead"
        else:
            found = "at the limit" if limit is not None and limit >= _ENOUGH else "behind"
        counts[found] += 1
        cells = ("-" if ratio is None else f"{ratio:.2f}", "-" if limit is None else f"{limit:.0f}")
        mark = "" if found == "ahead" else f"  {found}"
        print(f"{layer['descriptor']:{width}} {cells[0]:>6} {cells[1]:>8}  {best or '-'}{mark}")
    print(", ".join(f"{count} {name}" for name, count in counts.items()))


def _peers(layer: dict) -> Iterator[tuple[str, float]]:
    """Engines that take the layer's layout, with their times."""
    layout = "NHWC" if ":NHWC" in layer["descriptor"] else "NCHW"
    for name, said in layer["engines"].items():
        if name in _TAKE[layout] or (name == "ort" and said["way"] == layout):
            yield name, said["us"]
