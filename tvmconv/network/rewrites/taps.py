"""Convolutions without the taps that see nothing but padding, as in dilated ones of small images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tvmconv.network.graph import Editor, Graph
from tvmconv.network.rewrites.folding import floats_of, relayered
from tvmconv.specs.conv import ConvSpec
from tvmconv.specs.operators import Layer
from tvmconv.specs.padding import live_taps


def taps_inside(graph: Graph) -> Graph:
    """Convolutions of constant weights have only taps that reach the image for some result."""
    editor = Editor.of(graph)
    for node in graph.nodes:
        spec = floats_of(node)
        if spec is None or spec.transposed or spec.padding_mode != "zeros" or not all(spec.output_shape):
            continue
        assert isinstance(node.op, Layer)
        given = dict(zip(node.op.arguments, node.inputs, strict=True))
        w = editor.constants.get(editor.actual(given["w"]))
        kept = [_inside(spec, dim) for dim in range(spec.rank)]
        if w is None or all(len(live) == k for live, k in zip(kept, spec.kernel, strict=True)):
            continue
        padding = tuple(
            (lo - live.start * apart, hi - (k - live.stop) * apart)
            for (lo, hi), live, k, apart in zip(
                spec.padding, kept, spec.kernel, spec.dilation, strict=True)
        )  # fmt: skip
        if any(min(pair) < 0 for pair in padding):  # the image would have to be cut
            continue
        first = 0 if spec.channels_last else 2
        own = tuple(slice(None) for _ in range(first)) + tuple(slice(live.start, live.stop) for live in kept)
        given["w"] = editor.constant(np.ascontiguousarray(w[own]), given["w"])
        sizes = tuple(map(len, kept))
        dilation = tuple(apart if size > 1 else 1 for apart, size in zip(spec.dilation, sizes, strict=True))
        smaller = replace(spec, kernel=sizes, padding=padding, dilation=dilation)
        editor.put(relayered(editor, node, smaller, given, node.outputs))
    return editor.graph()


def _inside(spec: ConvSpec, dim: int) -> range:
    """The taps along a dim of the image, of which the outer ones reach it; one at least."""
    return live_taps(
        spec.kernel[dim], spec.stride[dim], spec.dilation[dim], spec.padding[dim][0], spec.in_spatial[dim],
        spec.out_spatial[dim],
    )  # fmt: skip
