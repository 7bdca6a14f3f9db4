"""Pictures of models: filters, feature maps, receptive fields, graphs; as files, or shown in notebooks.

Needs Pillow and matplotlib (``pip install 'tvmconv[show]'``) beside what reads models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tvmconv.base.lazy import lazily

if TYPE_CHECKING:
    from tvmconv.show.feature_maps import maps
    from tvmconv.show.images import Preparation
    from tvmconv.show.layer_filters import filters
    from tvmconv.show.node_graph import graph
    from tvmconv.show.picture import Picture
    from tvmconv.show.receptive_field import field

__all__ = ["Picture", "Preparation", "field", "filters", "graph", "maps"]

_NAMES = {
    "tvmconv.show.receptive_field": ("field",),
    "tvmconv.show.layer_filters": ("filters",),
    "tvmconv.show.node_graph": ("graph",),
    "tvmconv.show.images": ("Preparation",),
    "tvmconv.show.feature_maps": ("maps",),
    "tvmconv.show.picture": ("Picture",),
}
__getattr__, __dir__ = lazily(__name__, _NAMES, __all__)
