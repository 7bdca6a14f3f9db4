"""Shapes that only running the model shows: onnxruntime runs it once, in its own process with limited time
and memory, whatever the model is."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tvmconv.base.errors import Error
from tvmconv.onnx.reading.graph import Graph, Value, is_standard, node_name, subgraphs
from tvmconv.onnx.reading.model import Model
from tvmconv.onnx.reading.session import part_of, require_runtime

if TYPE_CHECKING:
    from onnx import NodeProto

SECONDS = 60
BYTES = 4 << 30
MOST_ITERATIONS = 10_000
"""Limits of such a run. A Loop with more iterations, or an unknown number, is not started."""


def shapes_by_running(
    model: Model, inputs: Mapping[str, tuple[int, ...]], names: Sequence[str]
) -> dict[str, Value]:
    """Shapes and types of values in one run on random numbers; of these alone the model is run that far.

    Raises Error where onnxruntime is missing, cannot run it, or the limits do not suffice.
    """
    from tvmconv.base.processes import ProcessError, command, output

    require_runtime()
    part = part_of(model.proto, names)
    for node in part.graph.node:
        _check_loops(model, node)
    shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
    what = f"{model.name}: the shape of {shown} is seen only in a run, and onnxruntime"
    head = json.dumps({"shapes": inputs, "names": list(names), "name": model.name}).encode()
    try:
        answer = json.loads(output(command(__name__), head + b"\n" + part.SerializeToString(), SECONDS))
    except ProcessError as problem:
        raise Error(f"{what} {problem}") from None
    if "error" in answer:
        raise Error(answer["error"])
    return {name: Value(tuple(shape), dtype) for name, (shape, dtype) in answer["values"].items()}


def serve() -> None:
    """Run the model on stdin, and print what was seen: the child's part."""
    import onnx

    from tvmconv.base.dtypes import name_of
    from tvmconv.onnx.reading.session import random_feeds, run

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = BYTES if most == resource.RLIM_INFINITY else min(BYTES, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    head, _, data = sys.stdin.buffer.read().partition(b"\n")
    asked = json.loads(head)
    try:
        proto = onnx.load_model_from_string(data)
        model = Model(asked["name"], proto, "", 0, Graph(proto, 0), None)
        arrays = run(model, random_feeds(model, asked["shapes"]), asked["names"])
        answer = {"values": {name: (array.shape, name_of(array)) for name, array in arrays.items()}}
    except Error as error:
        answer = {"error": str(error)}
    except MemoryError:
        answer = {"error": f"{asked['name']}: running it takes more than {BYTES >> 30} GiB"}
    print(json.dumps(answer))


def _check_loops(model: Model, node: NodeProto) -> None:
    if node.op_type == "Loop" and is_standard(node):
        count = model.graph.constant(node.input[0]) if node.input and node.input[0] else None
        if count is None or count.size != 1 or int(count.reshape(())) > MOST_ITERATIONS:
            times = "nobody knows how often" if count is None else f"{count.reshape(-1)[0]} times"
            raise Error(
                f"{model.name}: node {node_name(node)}: a shape depends on this Loop, which runs {times}; to "
                f"find shapes it may run {MOST_ITERATIONS} times"
            )
    for graph in subgraphs(node):
        for inner in graph.node:
            _check_loops(model, inner)
