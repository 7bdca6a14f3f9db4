"""Rewrites: each a function from a graph to one that computes the same in fewer or cheaper steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvmconv.network.graph import Graph
from tvmconv.network.layout import channels_last
from tvmconv.network.rewrites.channels import sorted_channels
from tvmconv.network.rewrites.constants import folded_constants
from tvmconv.network.rewrites.copies import merged_copies, without_repetition
from tvmconv.network.rewrites.folding import folded_after, folded_before
from tvmconv.network.rewrites.maps import fused_maps, simpler_maps
from tvmconv.network.rewrites.normalising import norms_read, norms_scaled
from tvmconv.network.rewrites.pooling import means_before_convolutions
from tvmconv.network.rewrites.products import products_as_layers, transposes_into_products
from tvmconv.network.rewrites.reshapes import maps_before_reshapes
from tvmconv.network.rewrites.resizing import convolutions_before_resizes
from tvmconv.network.rewrites.taps import taps_inside

Rewrite = Callable[[Graph], Graph]

EVERY: tuple[Rewrite, ...] = (
    folded_constants, without_repetition, merged_copies, simpler_maps, norms_read, fused_maps, simpler_maps,
    norms_scaled, transposes_into_products, products_as_layers, maps_before_reshapes, folded_after,
    folded_before, means_before_convolutions, convolutions_before_resizes, taps_inside,
)  # fmt: skip
"""In the order in which they are tried, until none changes anything."""

_MOST_ROUNDS = 20


def simplified(graph: Graph, door: str = "NCHW") -> Graph:
    """A network made ready: simplified, channels-last inside, simplified again. door: the layout of
    inputs and results of 4 dims."""
    return sorted_channels(until_stable(channels_last(until_stable(graph, EVERY), door), EVERY))


def until_stable(graph: Graph, rewrites: Sequence[Rewrite]) -> Graph:
    """The graph after all these rewrites, again and again as long as something changes."""
    for _ in range(_MOST_ROUNDS):
        before = graph.nodes
        for rewrite in rewrites:
            graph = rewrite(graph)
        if graph.nodes == before:
            break
    return graph
