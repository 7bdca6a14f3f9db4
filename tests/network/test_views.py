"""Copies of many inputs, in parts that leave the others; shuffles of channels, in weights."""

import numpy as np
import pytest
from onnx import helper
from onnx_models import Net
from planned import run_planned
from small_networks import assert_near, feeds_of, model, node, session_results

from tvmconv.network import compiling
from tvmconv.network.graph import Editor, Value
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.memory import plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import MOST_READ, place_values
from tvmconv.specs.operators import Copy, Piece, Type, parse_operator
from tvmconv.specs.operators.copy import joined


def test_a_wide_concatenation_is_several_copies():
    count = 2 * MOST_READ + 5
    types = [Type((1, 2, 2, 1 + number % 3), "float32") for number in range(count)]
    names = [f"x{number}" for number in range(count)]
    editor = Editor({n: Value(n, t.shape, t.dtype) for n, t in zip(names, types, strict=True)})
    editor.outputs["y"] = editor.add(joined(types, 3), names, "y")
    graph = editor.graph()
    views = place_values(graph)
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


@pytest.mark.parametrize(("op", "more"), [("Concat", {"axis": 1}), ("Mean", {})])
def test_more_inputs_than_a_kernel_takes(op, more):
    names = [f"a{number}" for number in range(40)]
    nodes = [node("Mul", f"x {n}", f"b{n}") for n in names]
    nodes.append(node(op, " ".join(f"b{n}" for n in names), "y", **more))
    proto = model(*nodes, **{n: np.float32(1.5 + at) for at, n in enumerate(names)})
    feeds = feeds_of(import_model(proto))
    found = compiling.compile(proto, "x86-64-v3").load()["main"](*feeds.values())
    assert_near({"y": found}, session_results(proto, feeds))


def shuffled_net(units=4, channels=12):
    """ShuffleNet's: in each unit half of the channels pass, the others go through convolutions, then all are
    shuffled; in the end a depthwise convolution reads them, and another."""
    net = Net((1, 3, 8, 7))
    x, half = net.conv("x", 3, channels, (1, 1)), channels // 2
    for _ in range(units):
        left = net.op("Split", x, net.const([half, half], "int64"), outputs=2, axis=1)
        y = net.op("Relu", net.conv(net.nodes[-1].output[1], half, half, (1, 1), bias=True))
        y = net.conv(y, half, half, group=half, pads=[1] * 4, bias=True)
        x = net.op("Concat", left, net.conv(y, half, half, (1, 1)), axis=1)
        x = net.op("Reshape", x, net.const([1, 2, half, 8, 7], "int64"))
        x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
        x = net.op("Reshape", x, net.const([1, channels, 8, 7], "int64"))
    deep = net.conv(x, channels, channels, group=channels, pads=[1] * 4, bias=True)
    ends = [net.conv(deep, channels, 5, (1, 1)), net.conv(x, channels, 5, (1, 1))]
    net.nodes.append(helper.make_node("Add", ends, ["y"]))
    return net.model("y")


def test_shuffles_go_into_weights():
    proto = shuffled_net()
    first = import_model(proto)
    graph = simplified(first, "NHWC")
    views = place_values(graph)
    ranges = [piece for step in views.copies[1:] for piece in step.op.pieces]
    assert ranges and all(piece.to_steps[1:] in ((), (1,)) for piece in ranges)
    moved = sum(piece.count for piece in ranges)  # what a unit reads of those before it, once; all in the end
    assert moved < (3 * 6 + 12) * 56
    feeds = feeds_of(first)
    wanted = session_results(proto, feeds)
    feeds = {name: np.ascontiguousarray(np.moveaxis(array, 1, -1)) for name, array in feeds.items()}
    found = run_planned(graph, views, plan_memory(graph, views), feeds)
    assert_near({"y": np.moveaxis(found["y"], -1, 1)}, wanted)


def test_shuffles_that_a_caller_sees_stay():
    net = Net((1, 6, 4, 5))
    x = net.conv("x", 6, 6, (1, 1))
    x = net.op("Reshape", x, net.const([1, 2, 3, 4, 5], "int64"))
    x = net.op("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = net.op("Reshape", x, net.const([1, 6, 4, 5], "int64"))
    net.nodes.append(helper.make_node("Identity", [x], ["y"]))
    net.nodes.append(helper.make_node("Relu", [net.conv(x, 6, 6)], ["z"]))
    proto = net.model("y", "z")
    first = import_model(proto)
    feeds = feeds_of(first)
    assert_near(interpret(simplified(first), feeds), session_results(proto, feeds))


def test_a_value_twice_in_one_concatenation():
    """No copy reads what lies where it writes."""
    net = Net((1, 6, 5, 4))
    y = net.conv("x", 6, 6, group=6, pads=[1] * 4)
    net.nodes.append(helper.make_node("Concat", [y, y], ["y"], axis=1))
    network = compiling.read(net.model("y"))
    module, feeds = compiling.compile(network, "x86-64-v3", jobs=1).load(), feeds_of(network.graph)
    assert_near({"y": module["main"](feeds["x"])}, session_results(net.model("y"), feeds))
