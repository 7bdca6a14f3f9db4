"""Where values lie: few copies, little memory, and the same results in the memory as planned."""

import itertools

import numpy as np
from planned import run_planned
from small_networks import assert_near, feeds_of, model, node, session_results, weights

from tvmconv.network.importing import import_model
from tvmconv.network.memory import ALIGNMENT, plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import place_values


def planned(proto, door="NCHW"):
    """(graph, views, memory) of a model, run as planned and compared with onnxruntime."""
    first = import_model(proto)
    graph = simplified(first, door)
    views = place_values(graph)
    memory = plan_memory(graph, views)
    feeds = feeds_of(first)
    wanted = session_results(proto, feeds)
    if door == "NHWC":
        feeds, wanted = (
            {k: np.moveaxis(a, 1, -1) if a.ndim == 4 else a for k, a in arrays.items()}
            for arrays in (feeds, wanted)
        )
    feeds = {name: np.ascontiguousarray(array) for name, array in feeds.items()}
    assert_near(run_planned(graph, views, memory, feeds), wanted)
    assert memory.bound <= memory.bytes and all(at % ALIGNMENT == 0 for at in memory.offsets.values())
    return graph, views, memory


def conv(x, w, y):
    return node("Conv", f"{x} {w}", y, pads=[1] * 4)


CONCAT = (conv("x", "w", "a"), conv("a", "v", "b"), node("Concat", "a b", "c", axis=1), conv("c", "u", "y"))
CONCAT_WEIGHTS = weights(w=(8, 3, 3, 3), v=(5, 8, 3, 3), u=(4, 13, 3, 3))


def test_a_concatenation_is_written_where_it_belongs():
    graph, views, _ = planned(model(*CONCAT, **CONCAT_WEIGHTS), "NHWC")
    assert graph.counts()["copy"] == 1 and not views.copies
    (wide,) = [node.output for node in graph.nodes if node.op.kind == "copy"]
    parts = [views.places[name] for name in (n for node in graph.nodes[:2] for n in node.outputs)]
    assert [(place.buffer, place.offset, place.pitch) for place in parts] == [(wide, 0, 13), (wide, 8, 13)]


def test_a_result_may_be_the_wider_buffer():
    planned(model(*CONCAT[:3], outputs=("c",), **{k: CONCAT_WEIGHTS[k] for k in "wv"}), "NHWC")


def test_what_a_caller_gives_or_gets_is_copied():
    """Neither an input nor a result can lie in another value."""
    nodes = [conv("x", "w", "a"), node("Concat", "x a", "y", axis=1)]
    _, views, _ = planned(model(*nodes, outputs=("y", "a"), **weights(w=(8, 3, 3, 3))), "NHWC")
    (copy,) = views.copies
    assert len(copy.op.pieces) == 2


def test_slices_are_views():
    nodes = [
        conv("x", "w", "a"), node("Slice", "a zero four one", "b"), node("Slice", "a four eight one", "c"),
        conv("b", "v", "d"), node("Concat", "c d", "e", axis=1), conv("e", "u", "y"),
    ]  # fmt: skip
    numbers = {name: np.array([n]) for name, n in (("zero", 0), ("one", 1), ("four", 4), ("eight", 8))}
    proto = model(*nodes, **weights(w=(8, 3, 3, 3), v=(6, 4, 3, 3), u=(2, 10, 3, 3)), **numbers)
    _, views, _ = planned(proto, "NHWC")
    (left,) = views.copies  # c cannot lie both in a and in e
    assert sum(piece.count for piece in left.op.pieces) == 4 * 64


def test_growing_concatenations_lie_in_the_last():
    """DenseNet's: each reads all before it."""
    nodes, arrays, seen, channels = [], {}, ["x0"], 8
    nodes.append(conv("x", "w0", "x0"))
    arrays["w0"] = (8, 3, 3, 3)
    for number in range(1, 5):
        nodes.append(node("Concat", " ".join(seen), f"c{number}", axis=1))
        nodes.append(node("Relu", f"c{number}", f"r{number}"))
        nodes.append(conv(f"r{number}", f"w{number}", f"x{number}"))
        arrays[f"w{number}"] = (4, channels, 3, 3)
        seen.append(f"x{number}")
        channels += 4
    nodes += [node("Concat", " ".join(seen), "all", axis=1), node("GlobalMaxPool", "all", "y")]
    _, views, _ = planned(model(*nodes, **weights(**arrays)), "NHWC")
    assert not views.copies


def test_maps_write_over_what_ends_with_them():
    nodes = [node("MaxPool", "x", "a", kernel_shape=[1, 1]), node("Exp", "a", "b"),
             node("MaxPool", "b", "y", kernel_shape=[2, 2])]  # fmt: skip
    graph, views, memory = planned(model(*nodes), "NHWC")
    assert len(views.steps) == 3 and memory.bytes == graph.type("x").bytes
    nodes = [node("MaxPool", "x", "a", kernel_shape=[1, 1]), node("Exp", "a", "b"),
             node("MaxPool", "b", "c", kernel_shape=[2, 2]), node("MaxPool", "a", "d", kernel_shape=[2, 2]),
             node("Add", "c d", "y")]  # fmt: skip
    graph, _, memory = planned(model(*nodes), "NHWC")
    assert memory.bytes >= 2 * graph.type("x").bytes  # a is read later


def test_what_is_alive_at_once_lies_apart():
    nodes = [conv("x", f"w{n}", f"a{n}") for n in range(3)]
    nodes += [node("Sum", "a0 a1 a2", "s"), node("GlobalAveragePool", "s", "y")]
    graph, _, memory = planned(model(*nodes, **weights(w0=(3,) * 4, w1=(3,) * 4, w2=(3,) * 4)), "NHWC")
    size = max(graph.type(name).bytes for name in graph.values)
    alive = [memory.offsets[name] for name in memory.offsets if graph.type(name).bytes == size]
    assert all(abs(a - b) >= size for a, b in itertools.combinations(set(alive), 2))
    assert memory.bytes == memory.bound


def test_reshapes_take_no_place():
    nodes = [conv("x", "w", "a"), node("GlobalAveragePool", "a", "p"), node("Flatten", "p", "y")]
    _, views, memory = planned(model(*nodes, **weights(w=(8, 3, 3, 3))), "NCHW")
    assert [step.op.kind for step in views.steps] == ["copy", "layer", "layer"]
    assert len(memory.offsets) == 2
