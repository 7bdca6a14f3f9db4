"""`tvmconv explain --whole`: a model node by node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error
from tvmconv.base.messages import readable
from tvmconv.cli import console

if TYPE_CHECKING:
    from tvmconv.network.explaining.facts import Explained, NodeFacts
    from tvmconv.specs.arithmetic import Field


def run(
    model: Path | None, shapes: Sequence[str], fixed: Sequence[str], start: str | None, end: str | None,
    picture: Path | None, as_json: bool, others: Sequence[object],
) -> None:  # fmt: skip
    """Print the table, or JSON, and write the picture if asked for. Raises Error for options that do not go
    together."""
    from tvmconv.network.explaining.facts import explain
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes

    if model is None:
        raise Error("--whole: needs --onnx MODEL")
    if any(others):
        raise Error("--whole: expected no DESCRIPTOR, -f, --stack or --layout beside it")
    if picture is not None:
        from tvmconv.show.picture import checked_file

        checked_file(picture)
    told = explain(model, parse_shapes(shapes), fixed=parse_fixed(fixed), start=start, end=end)
    if picture is not None:
        from tvmconv.show.node_graph import drawn

        drawn(told).save(picture)
        console.log(f"{picture}: the graph")
    if as_json:
        console.print_json(_json(model, told))
    else:
        _print(told)


def _json(model: Path, told: Explained) -> dict[str, Any]:
    origin = None if told.fields is None else told.fields.origin
    return {
        "model": str(model),
        "origin": origin,
        "inputs": {name: list(told.graph.values[name].shape) for name in told.graph.inputs},
        "nodes": [_node(facts) for facts in told.nodes],
        "total": {"parameters": told.parameters, "macs": told.macs},
    }


def _node(facts: NodeFacts) -> dict[str, Any]:
    return {
        "value": facts.value,
        "nodes": list(facts.source),
        "kind": facts.kind,
        "reads": list(facts.reads),
        "input_shapes": [list(type_.shape) for type_ in facts.inputs],
        "output_shape": list(facts.output.shape),
        "dtype": facts.output.dtype,
        "parameters": facts.parameters,
        "macs": facts.macs,
        "field": [
            {"axis": axis, "all": True} if field is None else
            {"axis": axis, **field_facts(field)}
            for axis, field in facts.field.items()
        ],
    }  # fmt: skip


def _print(told: Explained) -> None:
    numbers = {facts.value: str(place) for place, facts in enumerate(told.nodes, 1)}
    made = {name: node.output for node in told.graph.nodes for name in node.outputs}
    rows: list[list[str]] = []
    for facts in told.nodes:
        reads = dict.fromkeys(numbers.get(made.get(name, name), name) for name in facts.reads)
        rows.append([
            numbers[facts.value], ", ".join(reads), facts.kind, console.shape(facts.output.shape),
            readable(facts.parameters), readable(facts.macs), *columns(facts.field), facts.value,
        ])  # fmt: skip
    rows.append(["", "", "total", "", readable(told.parameters), readable(told.macs), *[""] * 4])
    names = ("#", "from", "kind", "out", "params", "MACs", "field", "jump", "start", "value")
    console.print_table(names, rows, right=("#", "params", "MACs"))


def columns(field: Mapping[int, Field | None]) -> list[str]:
    """Field, jump and start as tables show them."""
    if not field:
        return ["-"] * 3
    known = [None if one is None else field_facts(one) for one in field.values()]
    return [
        every(("all" if key == "size" else "-") if one is None else text(one[key]) for one in known)
        for key in ("size", "jump", "start")
    ]


def field_facts(field: Field) -> dict[str, int | float]:
    """A field as JSON has it."""
    return {key: _number(Fraction(value)) for key, value in asdict(field).items()}


def every(texts: Iterable[str]) -> str:
    """The texts of each dim, once where all are equal."""
    several = list(texts)
    return several[0] if len(set(several)) == 1 else "x".join(several)


def text(number: int | float) -> str:
    """A number of a field as tables show it."""
    return f"{number:g}" if isinstance(number, float) else str(number)


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
