"""Whole networks that torch writes: a U-Net and a detector of YOLOv8's shape, small."""

import sys

import pytest
from places import SCRIPTS
from planned import run_planned
from small_networks import assert_near, feeds_of, session_results

from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.memory import plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import place_values


@pytest.fixture(scope="module")
def network_models():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import network_models as found
    finally:
        sys.path.remove(str(SCRIPTS))
    return found


@pytest.mark.parametrize(
    ("name", "steps", "slack"),
    [
        ("unet", {"copy": 2, "layer": 21, "normalise": 1}, 1.05),
        ("yolo", {"copy": 6, "layer": 62, "map": 12, "normalise": 1, "reduce": 1, "resize": 2}, 1.1),
    ],
)
def test_networks_of_torch(network_models, tmp_path, name, steps, slack):
    import onnx

    proto = onnx.load(network_models.export(name, tmp_path / "model.onnx", 64))
    first = import_model(proto)
    graph = simplified(first)
    views = place_values(graph)
    memory = plan_memory(graph, views)
    counts = dict.fromkeys(steps, 0)
    for step in views.steps:
        counts[step.op.kind] = counts.get(step.op.kind, 0) + 1
    assert counts == steps
    assert memory.bytes <= slack * memory.bound
    feeds = feeds_of(first)
    wanted = session_results(proto, feeds)
    assert_near(interpret(graph, feeds), wanted)
    assert_near(run_planned(graph, views, memory, feeds), wanted)
