"""`tvmconv explain`: the arithmetic of layers and stacks, without compiling anything."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tvmconv.base.errors import Error, SpecError
from tvmconv.base.messages import readable
from tvmconv.cli import console, explain_network, models
from tvmconv.cli.given import whole_if_bare
from tvmconv.cli.options import AsJson, DescriptorsOrModel, Files
from tvmconv.specs import arithmetic, tokens
from tvmconv.specs.kinds import Spec

HELP = """Explain layers: sizes, padding, parameters, multiply-adds, bytes, what bounds their speed.

\b
Examples:
  tvmconv explain conv2d:1x224x224x3:o64:k7x7:s2:pSAME:NHWC:float32
  tvmconv explain -f layers.txt
  tvmconv explain --stack conv2d:1x3x32x32:o8:k3x3:NCHW:float32 maxpool2d:1x8x30x30:k2x2:NCHW:float32
  tvmconv explain -f layers.txt --json
  tvmconv explain --onnx model.onnx --shape x=1x3x224x224
  tvmconv explain model.onnx --shape x=1x3x224x224
  tvmconv explain --onnx model.onnx --shape x=1x3x224x224 --whole --picture net.svg
  tvmconv explain --onnx model.onnx --shape x=1x3x224x224 --whole --start c --end y

\b
  MACs       multiply-adds of one call, those on padding included (a pooling has none)
  bytes      every array once; flop/B is the arithmetic intensity: operations a byte
  bound      memory if flop/B is under --ridge, else compute: what will limit a good kernel
  separable  MACs of depthwise + pointwise instead, as a part of the dense layer's: 1/N + 1/K^2

With --stack each layer takes what the one before gives, and there are columns for what a result sees of the
stack's input: field (its receptive field), jump (between neighbours' middles), start (middle of the first;
the first element of the input is at 0). One layer alone is explained line by line. Nothing is compiled.

With --whole, or a model alone without --onnx, every node of the model has a row, with branches: "from" names
the rows that it reads. Where paths join, the field is what any of them sees; "all": the image's whole length,
as behind a global pooling.
"""

RIDGE = 10.0  # 2 FMAs of 8 floats per cycle against 3 bytes per cycle from main memory: a current CPU core


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("explain", help=HELP, short_help="Sizes, costs and receptive fields of layers.")(explain_verb)


def explain_verb(
    descriptors: DescriptorsOrModel = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    whole: models.Whole = False,
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="NAME", show_default=False,
                     help="Of --whole: fields as seen from this value or node, and only what depends on it."),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option("--end", metavar="NAME", show_default=False,
                     help="Of --whole: only what this value or node depends on."),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", metavar="FILE", show_default=False,
                     help="Of --whole: also draw the graph, as .svg, .png or .pdf."),
    ] = None,
    stack: Annotated[bool, typer.Option("--stack", help="The layers follow each other.")] = False,
    ridge: Annotated[
        float, typer.Option("--ridge", metavar="N", help="flop/B at which a machine is balanced.")
    ] = RIDGE,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """See HELP."""
    descriptors, onnx, whole = whole_if_bare(descriptors, onnx, whole)
    if whole:
        others = (descriptors, files, stack, layout != "auto")
        explain_network.run(onnx, shapes or [], fixed or [], start, end, picture, as_json, others)
        return
    for option, given in (("--start", start), ("--end", end), ("--picture", picture)):
        if given:
            raise Error(f"{option}: needs --whole")
    found = models.requested(
        descriptors or [], files or [], onnx, shapes or [], layout, "explain", fixed or []
    )
    if not ridge > 0:  # NaN as well
        raise SpecError(f"--ridge: {ridge}, expected a positive number")
    names = [name or f"layer {number}" for number, (name, _) in enumerate(found, 1)]
    layers = [spec for _, spec in found]
    if stack:
        arithmetic.check_chain(layers, names)
    facts = [_facts(name, spec, ridge) for name, spec in zip(names, layers, strict=True)]
    if stack:
        for number, fact in enumerate(facts, 1):
            fact["field"] = [
                explain_network.field_facts(field)
                for field in arithmetic.receptive_field(layers[:number])
            ]
    total = _total(facts)
    if as_json:
        console.print_json({"stack": stack, "ridge": ridge, "layers": facts, "total": total})
    elif len(layers) == 1:
        _print_one(layers[0], facts[0])
    else:
        _print_table(facts, total, stack)


def _facts(name: str, spec: Spec, ridge: float) -> dict[str, Any]:
    intensity = spec.intensity
    return {
        "name": name,
        "descriptor": str(spec),
        "kind": _kind(spec),
        "input_shape": list(spec.input_shape),
        "output_shape": list(spec.output_shape),
        "padding": [list(pair) for pair in spec.padding],
        "parameters": arithmetic.parameters(spec),
        "macs": arithmetic.multiply_adds(spec),
        "flops": spec.flops,
        "bytes": spec.bytes,
        "intensity": intensity,
        "bound": "memory" if intensity < ridge else "compute",
        "separable": _saving(spec),
    }


def _kind(spec: Spec) -> str:
    word = str(spec).partition(":")[0]
    kind = spec.kind
    if kind.startswith("global"):
        return f"{word} global"
    return word if word.startswith(kind) else f"{word} {kind}"


def _saving(spec: Spec) -> dict[str, Any] | None:
    if spec.kind != "dense" or spec.transposed:
        return None
    saving = arithmetic.separable_saving(spec)
    return {
        "macs": saving.depthwise_macs + saving.pointwise_macs,
        "weights": saving.separable_weights,
        "ratio": float(saving.ratio),
    }


def _total(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    total = {key: sum(fact[key] for fact in facts) for key in ("parameters", "macs", "flops", "bytes")}
    return {**total, "intensity": total["flops"] / total["bytes"] if total["bytes"] else 0.0}


def _print_table(facts: Sequence[dict[str, Any]], total: dict[str, Any], stack: bool) -> None:
    columns = ["layer", "kind", "in", "out", "padding", "params", "MACs", "bytes", "flop/B", "bound",
               "separable"]  # fmt: skip
    rows = []
    for fact in facts:
        saving = fact["separable"]
        rows.append([
            fact["name"], fact["kind"],
            console.shape(fact["input_shape"]), console.shape(fact["output_shape"]),
            tokens.pads(tuple(map(tuple, fact["padding"]))),
            readable(fact["parameters"]), readable(fact["macs"]),
            console.size(fact["bytes"]), f"{fact['intensity']:.2f}", fact["bound"],
            "-" if saving is None else f"{saving['ratio']:.3f}",
        ])  # fmt: skip
        if stack:
            rows[-1] += [_every(fact["field"], key) for key in ("size", "jump", "start")]
    ends = (facts[0]["input_shape"], facts[-1]["output_shape"]) if stack else None
    rows.append([
        "total", "", *(map(console.shape, ends) if ends else ("", "")), "",
        readable(total["parameters"]), readable(total["macs"]),
        console.size(total["bytes"]), f"{total['intensity']:.2f}", "", "", *(rows[-1][-3:] if stack else ()),
    ])  # fmt: skip
    columns += ["field", "jump", "start"] if stack else []
    console.print_table(columns, rows, right=("params", "MACs", "bytes", "flop/B", "separable"))


def _print_one(spec: Spec, fact: dict[str, Any]) -> None:
    lines = [
        (fact["name"], fact["descriptor"]),
        ("kind", fact["kind"]),
        ("input", f"{console.shape(spec.input_shape)} {spec.layout} {spec.dtype}"),
        ("output", f"{console.shape(spec.output_shape)}"),
        *((f"dim {dim}", spec.size_text(dim)) for dim in range(spec.rank)),
        ("padding", ", ".join(f"{lo} before and {hi} after" for lo, hi in spec.padding)),
        ("parameters", f"{fact['parameters']}"),
        ("MACs", f"{fact['macs']}"),
        ("bytes", f"{fact['bytes']} ({console.size(fact['bytes'])})"),
        ("flop/B", f"{fact['intensity']:.2f}, {fact['bound']}-bound"),
    ]
    saving = fact["separable"]
    if saving is not None:
        taps = "x".join(map(str, spec.kernel))
        lines.append((
            "separable", f"1/{spec.out_channels} + 1/({taps}) = {saving['ratio']:.4f}: "
            f"{saving['macs']} MACs, {saving['weights']} weights, depthwise then pointwise",
        ))  # fmt: skip
    if "field" in fact:
        lines += [(key, _every(fact["field"], name)) for key, name in
                  (("field", "size"), ("jump", "jump"), ("start", "start"))]  # fmt: skip
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        print(f"{label:<{width}}  {value}")


def _every(fields: Sequence[dict[str, Any]], key: str) -> str:
    return explain_network.every(explain_network.text(field[key]) for field in fields)
