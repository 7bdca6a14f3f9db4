"""Copies of many inputs, or of what is left when the rest is in its place: in parts that leave the others."""

import numpy as np
import pytest
from planned import run_planned
from small_networks import assert_near, feeds_of, model, node, session_results

from tvmconv.network import compiling
from tvmconv.network.graph import Editor, Value
from tvmconv.network.importing import import_model
from tvmconv.network.memory import plan_memory
from tvmconv.network.planning.program import views_of
from tvmconv.network.views import MOST_READ
from tvmconv.specs.operators import Copy, Piece, Type, parse_operator
from tvmconv.specs.operators.copy import joined


def test_a_wide_concatenation_is_several_copies():
    count = 2 * MOST_READ + 5
    types = [Type((1, 2, 2, 1 + number % 3), "float32") for number in range(count)]
    names = [f"x{number}" for number in range(count)]
    editor = Editor({n: Value(n, t.shape, t.dtype) for n, t in zip(names, types, strict=True)})
    editor.outputs["y"] = editor.add(joined(types, 3), names, "y")
    graph = editor.graph()
    views = views_of(graph)
    assert len(views.steps) == 3 and all(len(step.inputs) <= MOST_READ for step in views.steps)
    feeds = {n: np.random.default_rng(0).random(t.shape, np.float32)
             for n, t in zip(names, types, strict=True)}  # fmt: skip
    found = run_planned(graph, views, plan_memory(graph, views), feeds)
    np.testing.assert_array_equal(found["y"], np.concatenate(list(feeds.values()), axis=3))


def test_a_copy_that_leaves_the_rest_has_a_text():
    op = Copy((Type((4,), "float32"),), (8,), (Piece.of(0, 0, (1,), 2, (1,), (4,)),), None)
    assert parse_operator(str(op)) == op and "keep" in str(op)
    full = Copy((Type((4,), "float32"),), (4,), (Piece.of(0, 0, (1,), 0, (1,), (4,)),), None)
    assert full.fill == 0.0


@pytest.mark.parametrize(("op", "more"), [("Concat", {"axis": 1}), ("Sum", {}), ("Mean", {})])
def test_more_inputs_than_a_kernel_takes(op, more):
    names = [f"a{number}" for number in range(40)]
    nodes = [node("Mul", f"x {n}", f"b{n}") for n in names]
    nodes.append(node(op, " ".join(f"b{n}" for n in names), "y", **more))
    proto = model(*nodes, **{n: np.float32(1.5 + at) for at, n in enumerate(names)})
    feeds = feeds_of(import_model(proto))
    found = compiling.compile(proto, "x86-64-v3").load()["main"](*feeds.values())
    assert_near({"y": found}, session_results(proto, feeds))
