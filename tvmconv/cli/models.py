"""What the verbs that take an ONNX model share: its options, compiling it, verifying a library on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import completion, console, given
from tvmconv.cli.specs import Named, collect

if TYPE_CHECKING:

    from tvmconv.compiler.artifact.library import Library
    from tvmconv.onnx.recognising.layers import Extraction
    from tvmconv.onnx.using.agreement import Agreement
    from tvmconv.onnx.using.timing import RuntimeTimes

    Times = tuple[dict[str, float], RuntimeTimes]

Onnx = Annotated[
    Path | None,
    typer.Option("--onnx", metavar="MODEL", help="An ONNX model.", show_default=False,
                 callback=given.expect_model),
]  # fmt: skip
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SHAPE",
        show_default=False,
        help="Shape of an input (x=1x3x48x192), or size of a dynamic dimension (batch=1).",
    ),
]
Fixed = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        show_default=False,
        help="An input that will always have this value (sr=16000): it becomes a constant of the model.",
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        "--layout",
        metavar="LAYOUT",
        help="Of what functions take: auto, as the model's, which is NCHW; nchw; or nhwc.",
        autocompletion=completion.words("auto", "nchw", "nhwc"),
    ),
]
Bake = Annotated[
    bool, typer.Option("--bake-weights", help="Put the model's weights, prepacked, into the library.")
]
Names = Annotated[
    str | None,
    typer.Option(
        "--names", metavar="WAY", show_default=False, autocompletion=completion.words("node", "hash"),
        help="What functions of --onnx are called: node, by their nodes; hash, by descriptor and weights, "
             "equal ones once; or a file of lines NAME=NODE (default: node).",
    ),
]  # fmt: skip
Whole = Annotated[
    bool, typer.Option("--whole", help="The whole model of --onnx, as one function.")
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="WAY",
        autocompletion=completion.words("baked", "raw", "file", "raw-file"),
        help="Of --whole: baked, packed in the library; raw, as in the model and packed by the first call; "
        "file or raw-file, the same in a file beside the library.",
    ),
]
Blocks = Annotated[
    str,
    typer.Option(
        "--blocks",
        metavar="WAY",
        autocompletion=completion.words("auto", "always", "never"),
        help="Where pointwise and depthwise convolutions in a row are one kernel: always; never; auto, of "
        "a whole model where that is faster, else never. Without --whole, of --layout NHWC.",
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="[NAME=]FILE",
        show_default=False,
        help="An input of the model, a .npy file (default: random numbers).",
    ),
]
Time = Annotated[bool, typer.Option("--time", help="Time the layers of --onnx as well, and onnxruntime's.")]


def compile_library(
    model: Path, target: str, shapes: Sequence[str], layout: str, bake: bool, verbose: bool,
    fixed: Sequence[str] = (), blocks: str = "auto", **options: Any,
) -> Library:  # fmt: skip
    """Compile a model's convolutions with a progress bar on stderr; `options` are compile's."""
    from tvmconv.onnx.reading.branches import parse_fixed
    from tvmconv.onnx.reading.model import parse_shapes
    from tvmconv.onnx.recognising.extraction import extract
    from tvmconv.onnx.using.library import compile_model

    if bake:
        from tvmconv.compiler.artifact.library import check_can_bake
        from tvmconv.schedules.machines import resolve_all

        check_can_bake(resolve_all(target)[0])
    found = extract(
        model, parse_shapes(shapes), fixed=parse_fixed(fixed), layout=layout, blocks=joins(blocks))
    warn_skipped(found)
    for line in rest_lines(found, verbose):
        console.log(line)
    with console.progress("compiling", verbose=verbose) as step:
        return compile_model(found, target, bake_weights=bake, progress=step, **options)


def joins(blocks: str) -> bool:
    """Whether --blocks joins layers that are taken alone. Raises Error."""
    if blocks not in ("auto", "always", "never"):
        raise Error(f"--blocks {blocks}: expected auto, always or never")
    return blocks == "always"


def requested(
    descriptors: Sequence[str], files: Sequence[str], onnx: Path | None, shapes: Sequence[str], layout: str,
    what: str, fixed: Sequence[str] = (),
) -> list[Named]:  # fmt: skip
    """Every requested layer, from descriptors, files and --onnx, as (name, spec); those of a model are named
    after their nodes. ``what``: the verb, for the error if there are none."""
    found = collect(descriptors, files)
    if onnx is None:
        refuse_without_model(shapes, layout, False, fixed)
    else:
        from tvmconv.onnx.reading.branches import parse_fixed
        from tvmconv.onnx.reading.model import parse_shapes
        from tvmconv.onnx.recognising.extraction import extract

        extraction = extract(onnx, parse_shapes(shapes), fixed=parse_fixed(fixed), layout=layout)
        warn_skipped(extraction)
        found += [(layer.name, layer.spec) for layer in extraction.layers]
    if not found:
        raise Error(f"nothing to {what}: expected a DESCRIPTOR, -f FILE with one a line, or --onnx MODEL")
    return found


def warn_skipped(found: Extraction) -> None:
    """Report on stderr what one would expect among the model's layers but is missing."""
    for item in found.skipped:
        console.log(f"skipped {item.op_type} {item.name}: {item.reason}")


def rest_lines(found: Extraction, names: bool) -> list[str]:
    """What is left over of the model once its layers are compiled: operator counts, and optionally names."""
    from tvmconv.onnx.recognising.rest import counts

    if not found.rest:
        return ["left over: nothing"]
    inside = [item for item in found.rest if item.inside]
    lines = [f"left over: {console.count(len(found.rest), 'node')}: {counts(found.rest)}"]
    if names:
        lines += [f"  {item.op_type} {item.name}" for item in found.rest]
    for item in inside:
        what = ", ".join(f"{count} {kind}" for kind, count in item.inside.items())
        lines.append(f"inside {item.op_type} {item.name}, and not compiled: {what}")
    return lines


def refuse_without_model(
    shapes: Sequence[str], layout: str, bake: bool, fixed: Sequence[str] = (), names: str | None = None
) -> None:
    """Raise Error for options that mean nothing without --onnx."""
    given = {"--shape": bool(shapes), "--layout": layout != "auto", "--bake-weights": bake,
             "--set": bool(fixed), "--names": names is not None}  # fmt: skip
    for option, is_given in given.items():
        if is_given:
            raise Error(f"{option}: needs --onnx MODEL")


def verify_library(
    model: Path,
    library: Path,
    inputs: Sequence[str],
    seed: int,
    tolerance: float | None,
    timed: bool,
    as_json: bool,
) -> bool:
    """Compare every layer with onnxruntime and print the result; whether all agree."""
    from tvmconv.cli import arrays
    from tvmconv.onnx.reading.session import random_feeds
    from tvmconv.onnx.using.agreement import extraction_of, verify_extraction
    from tvmconv.onnx.using.timing import library_times, runtime_times
    from tvmconv.runtime import load

    module = load(library)
    found = extraction_of(module, model)
    if inputs:
        feeds = arrays.of_model(inputs, found.shapes, found.model)
    else:
        feeds = random_feeds(found.model, found.shapes, seed)
    results = verify_extraction(found, module, feeds, tolerance=tolerance)
    ok = all(result.ok for result in results)
    times = (library_times(found, module, feeds), runtime_times(found, feeds)) if timed else None
    if as_json:
        layers = [_json(result, times) for result in results]
        console.print_json({"model": str(model), "library": str(library), "ok": ok, "layers": layers})
        return ok
    if times is None:
        _print(results)
    else:
        _print_times(found, results, *times)
    failed = sum(not result.ok for result in results)
    data = "the given data" if inputs else "random data"
    print(f"{console.count(len(results), 'layer')} against onnxruntime on {data}, {failed} failed")
    worst = max(results, key=_badness)
    print(
        f"the largest error is {worst.relative:.1e} of its output's range ({worst.node}); "
        f"allowed: {worst.tolerance:.0e}"
    )
    return ok


def _json(result: Agreement, times: Times | None) -> dict[str, Any]:
    facts: dict[str, Any] = {
        key: value if not isinstance(value, float) or math.isfinite(value) else None
        for key, value in asdict(result).items()
    }
    if times is not None:
        ours, theirs = times
        facts["microseconds"] = ours[result.node] * 1e6
        facts["onnxruntime_microseconds"] = theirs.layers[result.node] * 1e6
    return {**facts, "ok": result.ok}


def _print(results: Sequence[Agreement]) -> None:
    columns = ("node", "max abs", "range", "error", "result", "descriptor")
    rows = [
        (
            result.node,
            f"{result.max_abs:.2e}",
            f"{result.range:.3g}",
            f"{result.relative:.1e}",
            "ok" if result.ok else "FAIL",
            result.descriptor,
        )
        for result in results
    ]
    console.print_table(columns, rows, right=columns[1:4])


def _print_times(
    found: Extraction, results: Sequence[Agreement], ours: dict[str, float], theirs: RuntimeTimes
) -> None:
    """A row for each distinct layer: its time, and onnxruntime's, are of one of the identical ones."""
    from tvmconv.onnx.using.report import by_spec

    errors = {result.node: result for result in results}
    columns = ("count", "µs", "GFLOP/s", "onnxruntime µs", "error", "result", "descriptor")
    rows = []
    for descriptor, layers in by_spec(found.layers).items():
        worst = max((errors[layer.name] for layer in layers), key=_badness)
        seconds = sum(ours[layer.name] for layer in layers) / len(layers)
        other = sum(theirs.layers[layer.name] for layer in layers) / len(layers)
        rows.append(
            (
                len(layers),
                f"{seconds * 1e6:.1f}",
                f"{layers[0].spec.flops / seconds / 1e9:.2f}",
                f"{other * 1e6:.1f}",
                f"{worst.relative:.1e}",
                "ok" if all(errors[layer.name].ok for layer in layers) else "FAIL",
                descriptor,
            )
        )
    console.print_table(columns, rows, right=columns[:5])
    own, other = sum(ours.values()), sum(theirs.layers.values())
    flops = sum(layer.spec.flops for layer in found.layers)
    print(f"in all: {own * 1e3:.2f} ms, {flops / own / 1e9:.2f} GFLOP/s")
    print(
        f"onnxruntime, by its profiler: {other * 1e3:.2f} ms in these layers, and "
        f"{theirs.reorders * 1e3:.2f} ms for changing the layout around them"
    )


def _badness(result: Agreement) -> tuple[bool, bool, float]:
    """Orders results; NaN is worst, then come those that failed."""
    return math.isnan(result.relative), not result.ok, result.relative
