"""What the verbs that take an ONNX model share: its options, compiling it, verifying a library on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.cli import console
from tvmconv.errors import Error, SpecError

if TYPE_CHECKING:
    import numpy as np

    from tvmconv.artifact.library import Library
    from tvmconv.onnx.agreement import Agreement

Onnx = Annotated[
    Path | None, typer.Option("--onnx", metavar="MODEL", help="An ONNX model.", show_default=False)
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SHAPE",
        show_default=False,
        help="Shape of an input (x=1x3x48x192), or size of a dynamic dimension (batch=1).",
    ),
]
Layout = Annotated[
    str, typer.Option("--layout", metavar="L", help="Layout of the kernels: NCHW, as the model, or NHWC.")
]
Bake = Annotated[
    bool, typer.Option("--bake-weights", help="Put the model's weights, prepacked, into the library.")
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


def compile_library(
    model: Path, target: str, shapes: Sequence[str], layout: str, bake: bool, verbose: bool, **options: Any
) -> Library:
    """Compile a model's convolutions with a progress bar on stderr; `options` are compile's."""
    from tvmconv.cli.extract import warn_skipped
    from tvmconv.onnx.layers import extract
    from tvmconv.onnx.library import compile_model
    from tvmconv.onnx.model import parse_shapes

    found = extract(model, parse_shapes(shapes), layout=layout)
    warn_skipped(found)
    with console.progress("compiling", verbose=verbose) as step:
        return compile_model(found, target, bake_weights=bake, progress=step, **options)


def refuse_without_model(shapes: Sequence[str], layout: str, bake: bool) -> None:
    """Raise Error for options that say nothing without --onnx."""
    given = {"--shape": bool(shapes), "--layout": layout != "NCHW", "--bake-weights": bake}
    for option, is_given in given.items():
        if is_given:
            raise Error(f"{option}: needs --onnx MODEL")


def verify_library(
    model: Path, library: Path, inputs: Sequence[str], seed: int, tolerance: float | None, as_json: bool
) -> bool:
    """Compare every layer with onnxruntime and print the result; whether all agree."""
    from tvmconv import load
    from tvmconv.onnx.agreement import TOLERANCE, extraction_of, verify_extraction
    from tvmconv.onnx.session import random_feeds

    module = load(library)
    found = extraction_of(module, model)
    feeds = _read(inputs, list(found.shapes)) if inputs else random_feeds(found.model, found.shapes, seed)
    allowed = TOLERANCE if tolerance is None else tolerance
    results = verify_extraction(found, module, feeds, tolerance=allowed)
    if as_json:
        console.print_json(
            {
                "model": str(model),
                "library": str(library),
                "ok": all(result.ok for result in results),
                "layers": [_json(result) for result in results],
            }
        )
    else:
        _print(results, "given data" if inputs else "random data")
    return all(result.ok for result in results)


def _read(texts: Sequence[str], names: list[str]) -> dict[str, np.ndarray]:
    """Arrays of `NAME=FILE`, or of one FILE for a model with one input."""
    from tvmconv.cli.run import _load

    feeds: dict[str, np.ndarray] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or Path(text).exists():
            if len(names) != 1:
                raise SpecError(f"--input {text}: expected NAME=FILE for each of {', '.join(names)}")
            name, path = names[0], text
        if name in feeds:
            raise SpecError(f"--input {text}: {name!r} is given twice")
        feeds[name] = _load(Path(path))
    return feeds


def _json(result: Agreement) -> dict[str, Any]:
    import math

    facts = {
        key: value if not isinstance(value, float) or math.isfinite(value) else None
        for key, value in asdict(result).items()
    }
    return {**facts, "ok": result.ok}


def _print(results: Sequence[Agreement], data: str) -> None:
    columns = ("node", "max abs", "range", "error/range", "result", "descriptor")
    rows = [
        (
            result.node,
            f"{result.max_abs:.2e}",
            f"{result.range:.3g}",
            f"{result.relative:.2e}",
            "ok" if result.ok else "FAIL",
            result.descriptor,
        )
        for result in results
    ]
    console.print_table(columns, rows, right=columns[1:4])
    failed = sum(not result.ok for result in results)
    worst = max(results, key=lambda result: (result.relative != result.relative, result.relative))
    print(f"{console.count(len(results), 'layer')} against onnxruntime on {data}, {failed} failed")
    print(
        f"the largest error is {worst.relative:.1e} of its output's range ({worst.node}); "
        f"allowed: {worst.tolerance:.0e}"
    )
