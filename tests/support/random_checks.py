"""Random networks beside onnxruntime: drawn, run in NumPy in the memory that is planned for them, and
compiled, several in one library."""

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from planned import run_planned
from random_networks import models
from small_networks import assert_near, feeds_of, session_results

from tvmconv.compiler.artifact.library import Library
from tvmconv.network.checking import arguments_of
from tvmconv.network.compiling import plan, read
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.network.memory import plan_memory
from tvmconv.network.rewrites import simplified
from tvmconv.network.views import place_values
from tvmconv.onnx.recognising.layers import image_from
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import Copy, parse_operator

DOORS = ("NCHW", "NHWC")


def drawn(count, number=0):
    """So many models with the layout at the door of each: always the same ones for a number."""
    found = []

    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(models(), st.sampled_from(DOORS))
    def draw(proto, door):
        found.append((proto, door))

    draw()
    return found[:count]


def check_in_numpy(proto, door):
    """As it is read, as it is rewritten, and in the memory that is planned: each as onnxruntime has it."""
    first = import_model(proto)
    feeds = feeds_of(first)
    wanted = session_results(proto, feeds)
    assert_near(interpret(first, feeds), wanted)
    graph = simplified(first, door)
    for node in graph.nodes:
        assert parse_operator(str(node.op)) == node.op
        assert not isinstance(node.op, Copy) or not node.op.overlaps()
    given_ = {name: at_door(array, door) for name, array in feeds.items()}
    results = interpret(graph, given_)
    views = place_values(graph)
    in_memory = run_planned(graph, views, plan_memory(graph, views), given_)
    for found in (results, in_memory):
        assert_near(found, {name: at_door(array, door) for name, array in wanted.items()})


def check_compiled(cases, target):
    """The same of what they compile to, as functions of one library; how many steps they have in all."""
    functions, calls, machine = {}, [], resolve(target)
    for number, (proto, door) in enumerate(cases):
        network = read(proto, {}, layout=door.lower())
        name = f"net_{number}"
        functions[name] = plan(network, machine, jobs=1).program
        calls.append((name, proto, network))
    module = Library(functions, machine, prefix="random").load()
    for name, proto, network in calls:
        feeds = feeds_of(import_model(proto))
        results = module[name](*arguments_of(network, feeds))
        several = results if isinstance(results, tuple) else (results,)
        layouts = [network.layouts.get(value, "NCHW") for value in network.graph.outputs.values()]
        found = [image_from(layout, y) for layout, y in zip(layouts, several, strict=True)]
        assert_near(dict(zip(network.graph.outputs, found, strict=True)), session_results(proto, feeds))
    return sum(len(program.steps) for program in functions.values())


def at_door(array, door):
    """A value of the model as a network of this layout takes or gives it."""
    turned = door == "NHWC" and array.ndim == 4
    return np.ascontiguousarray(np.moveaxis(array, 1, -1)) if turned else array
