"""A network in NumPy, operator by operator: the referee of rewrites and of compiled networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tvmconv.base.dtypes import FLOATS, name_of, rounded
from tvmconv.base.errors import SpecError
from tvmconv.network.graph import Graph, Node
from tvmconv.specs.operators.base import dims_text

Array = np.ndarray[Any, Any]


def interpret(
    graph: Graph, inputs: Mapping[str, Any], *, seen: Callable[[Node, tuple[Array, ...]], None] | None = None
) -> dict[str, Array]:
    """The network's results, by their public names, in the types that it states.

    inputs: an array of the right shape and type for each of the graph's. Between operators floats stay
    float64: nothing is rounded but where an operator casts. seen: is called with each node and its results.
    Raises SpecError for inputs that do not fit.
    """
    arrays: dict[str, Any] = dict(graph.constants)
    for name in graph.inputs:
        wanted = graph.values[name]
        if name not in inputs:
            raise SpecError(f"input {name!r}: missing, expected {', '.join(graph.inputs)}")
        given = np.asarray(inputs[name])
        if given.shape != wanted.shape or name_of(given) != wanted.dtype:
            found = f"{dims_text(given.shape)} {name_of(given)}"
            raise SpecError(f"input {name!r}: {found}, expected {wanted.type}")
        arrays[name] = given
    for name in inputs:
        if name not in graph.inputs:
            raise SpecError(f"input {name!r}: expected {', '.join(graph.inputs)}")
    readers: dict[str, int] = dict.fromkeys(graph.outputs.values(), 1)
    for node in graph.nodes:
        for name in node.inputs:
            readers[name] = readers.get(name, 0) + 1
    for node in graph.nodes:
        results = node.op.reference([arrays[name] for name in node.inputs])
        if seen is not None:
            seen(node, results)
        arrays.update(zip(node.outputs, results, strict=True))
        for name in {*node.inputs, *node.outputs}:  # a large network's values need not all be kept
            readers[name] = readers.get(name, 0) - node.inputs.count(name)
            if readers[name] <= 0:
                arrays.pop(name, None)
    return {
        public: _in_type(arrays[name], graph.values[name].dtype) for public, name in graph.outputs.items()
    }


def _in_type(array: Any, dtype: str) -> Array:
    found = np.asarray(array)
    if dtype not in FLOATS or name_of(found) == dtype:
        return found
    with np.errstate(over="ignore"):
        return rounded(found, dtype)
