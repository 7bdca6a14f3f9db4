"""Places for the nodes of a graph without cycles, in layers, so that edges run down and cross seldom.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981):
layers by the longest path, bends where edges pass layers, orders by the middle of the neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

_SWEEPS = 8
_PULL = 0.95  # towards the middle: a long graph would drift sideways

Item = int | tuple[int, int, int]
"""A node, or a bend: (from, to, layer) of the edge."""


@dataclass(frozen=True)
class Layout:
    """nodes: (x, layer) of each, x in widths of a node from 0 on. edges: the points of each, its ends
    included."""

    nodes: list[tuple[float, int]]
    edges: dict[tuple[int, int], list[tuple[float, int]]]

    @property
    def size(self) -> tuple[float, int]:
        """Width and layers."""
        points = [*self.nodes, *(point for edge in self.edges.values() for point in edge)]
        return max(x for x, _ in points) + 1, max(layer for _, layer in points) + 1


def layout(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Places of nodes 0 to count - 1; each edge runs from a node to a later one."""
    edges = list(dict.fromkeys(edges))
    layer = [0] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        layer[end] = max(layer[end], layer[start] + 1)
    layers: list[list[Item]] = [[] for _ in range(max(layer, default=0) + 1)]
    for node in range(count):
        layers[layer[node]].append(node)
    above: dict[Item, list[Item]] = {}
    below: dict[Item, list[Item]] = {}
    for start, end in edges:
        chain: list[Item] = [start, *((start, end, at) for at in range(layer[start] + 1, layer[end])), end]
        for bend in chain[1:-1]:
            layers[bend[2]].append(bend)  # type: ignore[index]
        for first, second in pairwise(chain):
            below.setdefault(first, []).append(second)
            above.setdefault(second, []).append(first)
    x = {item: at - (len(items) - 1) / 2 for items in layers for at, item in enumerate(items)}
    for sweep in range(_SWEEPS):
        down = sweep % 2 == 0
        for items in layers if down else reversed(layers):
            _arrange(items, x, above if down else below)
    left = min(x.values(), default=0.0)
    places = [(x[node] - left, layer[node]) for node in range(count)]
    bends = {
        (start, end): [
            places[start],
            *((x[start, end, at] - left, at) for at in range(layer[start] + 1, layer[end])),
            places[end],
        ]
        for start, end in edges
    }
    return Layout(places, bends)


def _arrange(items: list[Item], x: dict[Item, float], neighbours: Mapping[Item, list[Item]]) -> None:
    """Order a layer by where its neighbours are, and put each as near to them as the others allow."""
    wish = {item: _PULL * fmean(x[other] for other in neighbours[item]) if item in neighbours else x[item]
            for item in items}  # fmt: skip
    items.sort(key=lambda item: (wish[item], x[item]))
    right, at = [], float("-inf")
    for item in items:
        at = max(wish[item], at + 1)
        right.append(at)
    left, at = [], float("inf")
    for item in reversed(items):
        at = min(wish[item], at - 1)
        left.append(at)
    for item, far, near in zip(items, right, reversed(left), strict=True):
        x[item] = (far + near) / 2
