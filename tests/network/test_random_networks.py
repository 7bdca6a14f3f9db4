"""Random networks of concatenations, splits, shuffles, residuals, resizes, poolings and arithmetic: imported,
rewritten and run in the memory that is planned for them, they give what onnxruntime gives."""

import os

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from planned import run_planned
from random_networks import models
from small_networks import assert_near, feeds_of, session_results

from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.memory import plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import place_values
from tvmconv.specs.operators import Copy, parse_operator

EXAMPLES = int(os.environ.get("TVMCONV_RANDOM_NETWORKS", "12"))
"""How many of them; hundreds when asked for."""


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=EXAMPLES < 100
)
@given(models(), st.sampled_from(["NCHW", "NHWC"]))
def test_random_networks(proto, door):
    first = import_model(proto)
    feeds = feeds_of(first)
    wanted = session_results(proto, feeds)
    assert_near(interpret(first, feeds), wanted)
    graph = simplified(first, door)
    for node in graph.nodes:
        assert parse_operator(str(node.op)) == node.op
        assert not isinstance(node.op, Copy) or not node.op.overlaps()
    given_ = {name: _at_door(array, door) for name, array in feeds.items()}
    results = interpret(graph, given_)
    views = place_values(graph)
    in_memory = run_planned(graph, views, plan_memory(graph, views), given_)
    for found in (results, in_memory):
        assert_near(found, {name: _at_door(array, door) for name, array in wanted.items()})


def _at_door(array, door):
    turned = door == "NHWC" and array.ndim == 4
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if turned else array
