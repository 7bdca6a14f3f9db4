"""ONNX's node cases as networks of their own: imported, interpreted, compared."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper
from onnx_cases import check, every_case

from tvmconv.base.dtypes import widened
from tvmconv.base.errors import Error
from tvmconv.compiler.artifact.library import Library
from tvmconv.network.checking import arguments_of
from tvmconv.network.compiling import plan, read
from tvmconv.network.importing import import_model
from tvmconv.network.interpret import interpret
from tvmconv.onnx.recognising.layers import image_from
from tvmconv.schedules.machines import resolve
from tvmconv.specs.operators import Copy, parse_operator

# Their inputs from this one on say what is done, and are fixed.
_STATED = {
    **dict.fromkeys(
        ("Reshape", "Slice", "Split", "Squeeze", "Unsqueeze", "Pad", "Resize", "Upsample", "Expand", "Gather",
         "Tile", "Dropout", "DFT"), 1,
    ),
    **dict.fromkeys(("ConstantOfShape", "Range"), 0),
}  # fmt: skip


def cases_of(*operators):
    """Cases in memory that consist of one node of these operators."""
    alone = [(case, nodes[0]) for case in every_case() if len(nodes := nodes_of(case)) == 1]
    return [case for case, node in alone if node.op_type in operators]


def passing(*operators):
    """Those of `cases_of` that `outcome` passes."""
    return [case for case in cases_of(*operators) if outcome(case) is None]


def written_out(operators):
    """Cases of several nodes that are all of these operators; not those in bfloat16, whose results are of
    values that are rounded after every node."""
    return [
        case
        for case in every_case()
        if len(nodes := nodes_of(case)) > 1 and {node.op_type for node in nodes} <= set(operators)
        and not any("bfloat16" in str(_array(array).dtype) for _, found in case.data_sets for array in found)
    ]  # fmt: skip


def arguments(case, inputs):
    """A case's inputs as arrays by name: those that are fixed, and the others."""
    feeds = dict(zip([value.name for value in case.model.graph.input], map(_array, inputs), strict=False))
    fixed = {name: array for name, array in feeds.items() if _is_stated(case, name, array)}
    return fixed, {name: array for name, array in feeds.items() if name not in fixed}


def compiled(cases, target):
    """How many of these cases, which `outcome` passes, were compiled, in one library, and gave what they
    should; and why others could not be, by name. Those without inputs are left out."""
    functions, calls, refused, machine = {}, [], {}, resolve(target)
    for case in cases:
        for inputs, outputs in case.data_sets:
            fixed, feeds = arguments(case, inputs)
            network = read(case.model, {name: array.shape for name, array in feeds.items()}, fixed=fixed)
            if network.graph.inputs:
                name = f"case_{len(calls)}"
                try:
                    functions[name] = plan(network, machine, jobs=1).program
                except Error as error:
                    refused[case.name] = str(error)
                    continue
                calls.append((name, arguments_of(network, feeds), outputs, case, network))
    module = Library(functions, machine, prefix="cases").load()
    for name, given, outputs, case, network in calls:
        results = module[name](*given)
        several = results if isinstance(results, tuple) else (results,)
        layouts = [network.layouts.get(value, "NCHW") for value in network.graph.outputs.values()]
        found = [widened(image_from(layout, y)) for layout, y in zip(layouts, several, strict=True)]
        check(found, [widened(_array(array)) for array in outputs], case.rtol, case.atol)
    return len(calls), refused


def outcome(case):
    """None where a case passes, else why it is not supported; raises what makes it fail."""
    for inputs, outputs in case.data_sets:
        fixed, feeds = arguments(case, inputs)
        shapes = {name: array.shape for name, array in feeds.items()}
        try:
            graph = import_model(case.model, shapes, fixed=fixed)
        except Error as error:
            assert "\n" not in str(error)
            return str(error)
        for node in graph.nodes:
            assert parse_operator(str(node.op)) == node.op
            assert not isinstance(node.op, Copy) or not node.op.overlaps()
        found = interpret(graph, feeds)
        for array, known in zip(found.values(), graph.outputs.values(), strict=True):
            assert array.shape == graph.values[known].shape
        wanted = [widened(_array(array)) for array in outputs]
        check([widened(array) for array in found.values()], wanted, case.rtol, case.atol)
    return None


def _is_stated(case, name, array):
    nodes = nodes_of(case)
    if len(nodes) > 1:
        return array.dtype.kind == "i" and array.ndim < 2
    (node,) = nodes
    first = 1 if node.op_type.startswith("Reduce") else _STATED.get(node.op_type, 99)
    places = [place for place, given in enumerate(node.input) if given == name]
    if node.op_type == "Loop":  # the count and the first condition
        return bool(places) and min(places) < 2
    sequence_lengths = node.op_type in ("LSTM", "GRU") and 4 in places
    return sequence_lengths or (bool(places) and min(places) >= first)


def nodes_of(case):
    return [node for node in case.model.graph.node if node.op_type != "Constant"]


def _array(value):
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
