"""Slices that count down, and powers of integers below 0, as onnxruntime has them."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from small_networks import assert_near, feeds_of, model, node, session_results

import tvmconv
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret

BOUNDS = st.one_of(st.integers(-8, 8), st.sampled_from([-(2**63), -(2**31), 2**31 - 1, 2**63 - 1]))


@settings(max_examples=150, deadline=None)
@given(BOUNDS, BOUNDS, st.sampled_from([-3, -2, -1, 1, 2]), st.booleans())
def test_slices(start: int, end: int, step: int, constant: bool) -> None:
    """Of an input, and of a constant that is added to it."""
    at = {"s": np.array([start]), "e": np.array([end]), "a": np.array([0]), "t": np.array([step])}
    if constant:
        k = np.arange(6, dtype=np.float32).reshape(6, 1)
        proto = model(node("Slice", "k s e a t", "c"), node("Add", "x c", "y"), shape=(1, 5), k=k, **at)
    else:
        proto = model(node("Slice", "x s e a t", "y"), shape=(6, 5), **at)
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 5) if constant else (6, 5)).astype(np.float32)}
    wanted = session_results(proto, feeds)
    assume(wanted["y"].size)  # nothing is computed of no elements
    assert_near(interpret(import_model(proto), feeds), wanted)


def test_integers_to_a_power_below_0() -> None:
    """1 and -1 are their own inverses; those of others are cut towards zero."""
    base, exponent = np.meshgrid(np.array([-7, -2, -1, 1, 2, 127]), np.array([-4, -3, -2, -1, 0, 1, 2, 3]))
    for dtype in (TensorProto.INT64, TensorProto.INT32):
        kind = np.int64 if dtype == TensorProto.INT64 else np.int32
        proto = model(
            node("Mul", "x zero", "none"), node("Cast", "none", "i", to=dtype), node("Add", "i b", "base"),
            node("Add", "i e", "exponent"), node("Pow", "base exponent", "p"),
            node("Cast", "p", "y", to=TensorProto.FLOAT), shape=base.shape, zero=np.float32(0),
            b=base.astype(kind), e=exponent.astype(kind),
        )  # fmt: skip
        graph = import_model(proto)
        feeds = feeds_of(graph)
        (wanted,) = session_results(proto, feeds).values()
        np.testing.assert_array_equal(interpret(graph, feeds)["y"], wanted)
        np.testing.assert_array_equal(tvmconv.network.compile(proto).load()["main"](feeds["x"]), wanted)
