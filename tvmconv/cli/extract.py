"""`tvmconv extract`: the convolutions and poolings of an ONNX model, as descriptors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from tvmconv.cli import console
from tvmconv.cli.models import Blocks, Fixed, Layout, Shapes, joins, rest_lines, warn_skipped
from tvmconv.cli.options import AsJson, Model

if TYPE_CHECKING:
    from tvmconv.onnx.recognising.layers import Extraction
    from tvmconv.onnx.using.report import Kind

HELP = """List a model's convolutions and poolings as descriptors, and where its time will go.

\b
Examples:
  tvmconv extract model.onnx
  tvmconv extract model.onnx --shape x=1x3x48x192
  tvmconv extract model.onnx --shape batch=4 --layout NHWC --json > layers.json
  tvmconv extract model.onnx --descriptors > layers.txt
  tvmconv extract vad.onnx --shape input=1x576 --set sr=16000 -v

A convolution's bias, a batch normalisation or other per-channel arithmetic with constants after it, then the
sum with a value of the same shape, and an activation after that become part of it. A convolution between
DequantizeLinear and QuantizeLinear is one of integers. FLOPs and bytes are of one run: bytes are those that
have to move at least, each array once. What is left over are the nodes that another program has to run; -v
names them. --set makes a constant of an input; of an If that it decides, the branch is used. --descriptors
prints different ones once, for 'tvmconv compile -f layers.txt'; 'tvmconv compile --onnx' takes the model
itself.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("extract", help=HELP, short_help="List the layers of an ONNX model.")(extract_verb)


def extract_verb(
    model: Model,
    shapes: Shapes = None,
    fixed: Fixed = None,
    layout: Layout = "auto",
    blocks: Blocks = "auto",
    descriptors: Annotated[
        bool, typer.Option("--descriptors", help="Print only the distinct descriptors, one per line.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Name the nodes that are left over.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes
    from tvmconv.onnx.recognising.extraction import extract
    from tvmconv.onnx.using.report import as_json as report_json
    from tvmconv.onnx.using.report import by_spec

    found = extract(model, parse_shapes(shapes or []), fixed=parse_fixed(fixed or []), layout=layout,
                    blocks=joins(blocks))  # fmt: skip
    if as_json:
        console.print_json(report_json(found))
    elif descriptors:
        for text in by_spec(found.layers):
            print(text)
    else:
        _print(found)
        print("\n" + "\n".join(rest_lines(found, verbose)))
    warn_skipped(found)


def _print(found: Extraction) -> None:
    from tvmconv.onnx.using.report import by_kind, by_spec

    shapes = ", ".join(f"{name} {console.shape(dims)}" for name, dims in found.shapes.items())
    layers, groups = found.layers, by_spec(found.layers)
    count = console.count(len(layers), "layer")
    print(f"{found.model.name}: {count}, {len(groups)} different; opset {found.model.opset}, {shapes}\n")
    _print_kinds(by_kind(layers))
    print()
    rows = [
        (len(group), text, f"{group[0].spec.flops / 1e6:.2f}", ", ".join(layer.name for layer in group))
        for text, group in groups.items()
    ]
    console.print_table(("count", "descriptor", "MFLOP", "nodes"), rows, right=("count", "MFLOP"))


def _print_kinds(kinds: Sequence[Kind]) -> None:
    total = kinds[-1]
    columns = ("kind", "layers", "different", "MFLOP", "share", "bytes", "share", "FLOP/byte")
    rows = [
        (
            kind.kind,
            kind.layers,
            kind.distinct,
            f"{kind.flops / 1e6:.2f}",
            _share(kind.flops, total.flops),
            console.size(kind.bytes),
            _share(kind.bytes, total.bytes),
            f"{kind.flops / kind.bytes:.1f}" if kind.bytes else "-",
        )
        for kind in kinds
    ]
    console.print_table(columns, rows, right=columns[1:])


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f}%" if whole else "-"
