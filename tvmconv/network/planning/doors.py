"""What a caller of a network gives and gets: results in values of their own, arguments by C identifiers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tvmconv.formats.kernel import Param
from tvmconv.network.graph import Editor, Graph
from tvmconv.specs.operators.copy import reshaped

_LAYOUTS = {"NCHW": {3: "NCW", 4: "NCHW", 5: "NCDHW"}, "NHWC": {3: "NWC", 4: "NHWC", 5: "NDHWC"}}


def own_results(graph: Graph) -> Graph:
    """The same network in which every result is a value that a node makes, and that is no other result."""
    editor = Editor.of(graph)
    taken = {*graph.inputs, *graph.constants}
    for public, name in graph.outputs.items():
        if name in taken:
            type_ = graph.type(name)
            editor.outputs[public] = editor.new(reshaped(type_, type_.shape), [name], public)
        taken.add(name)
    return editor.graph()


def arguments_of(graph: Graph, layouts: Mapping[str, str]) -> tuple[dict[str, Param], dict[str, Param]]:
    """The arrays that a caller gives, and those that it gets, by the model's names for them. ``layouts``:
    "NCHW" or "NHWC" for those that are images, by value."""
    names = identifiers([*graph.inputs, *graph.outputs])

    def param(name: str, value: str) -> Param:
        shape, dtype = graph.type(value)
        layout = _LAYOUTS[layouts[value]].get(len(shape), "") if value in layouts else ""
        return Param(name, shape, dtype, layout)

    count = len(graph.inputs)
    inputs = {name: param(own, name) for name, own in zip(graph.inputs, names, strict=False)}
    results = zip(graph.outputs.items(), names[count:], strict=True)
    return inputs, {public: param(own, value) for (public, value), own in results}


def identifiers(names: Iterable[str]) -> list[str]:
    """A C identifier for each of these names, like it; no two the same in capitals."""
    taken = {"WORKSPACE"}  # of the header's macros
    found = []
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)[:60]
        plain = plain if re.match("[A-Za-z]", plain) else f"x{plain}"
        number, own = 1, plain
        while own.upper() in taken:
            number += 1
            own = f"{plain}_{number}"
        taken.add(own.upper())
        found.append(own)
    return found
