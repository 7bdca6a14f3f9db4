"""`tvmconv compile`: descriptors in, one shared library and its header out."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import console, models, networks
from tvmconv.cli.specs import Named, collect

if TYPE_CHECKING:
    from tvmconv.compiler.artifact.library import Library

HELP = """Compile descriptors, an ONNX model's convolutions or all of it into one shared library and a header.

\b
Examples:
  tvmconv compile conv2d:1x56x56x64:o64:k3x3:p1:NHWC:float32:bias:relu6 -o conv.so
  tvmconv compile dw=conv2d:1x56x56x64:o64:k3x3:p1:g64:NHWC:float32 -o dw.so --target x86-64-v3
  tvmconv compile -f layers.txt -o model.so --prefix model -j 2 -v
  tvmconv compile -f layers.txt -o model.so --json > report.json
  tvmconv compile --onnx model.onnx --shape x=1x3x48x192 --bake-weights -o model.so
  tvmconv compile --onnx model.onnx --whole -o model.so

layers.txt holds one DESCRIPTOR or NAME=DESCRIPTOR per line; "#" starts a comment. Without a NAME a function
is called by its kind and a hash of the descriptor. 'tvmconv --help' explains descriptors, 'tvmconv targets'
lists the targets. With --whole the library has one function, main or --name, in C after --prefix, the
model's name if it is not given.
"""

Descriptors = Annotated[
    list[str] | None,
    typer.Argument(metavar="DESCRIPTOR", help="DESCRIPTOR or NAME=DESCRIPTOR, several.", show_default=False),
]
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="TARGET", help="One of 'tvmconv targets', or several, joined by commas."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("compile", help=HELP, short_help="Compile descriptors into one library.")(compile_verb)


def compile_verb(
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The library to write: .so, or .a or .o to link into a program.",
            show_default=False,
        ),
    ],
    descriptors: Descriptors = None,
    files: Annotated[
        list[str] | None,
        typer.Option(
            "--file",
            "-f",
            metavar="FILE",
            help="Read descriptors from a file ('-': stdin).",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--name",
            metavar="NAME",
            help="Name of the first, second, ... DESCRIPTOR argument; of the function of --whole.",
            show_default=False,
        ),
    ] = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    bake: models.Bake = False,
    whole: models.Whole = False,
    target: Target = "native",
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", metavar="P", show_default=False,
            help="Prefix of all C functions, in place of tvmconv's, or with --whole the model's name.",
        ),
    ] = None,
    cc: Annotated[
        str | None,
        typer.Option(
            "--cc",
            metavar="CC",
            show_default=False,
            help="C compiler to link with (default: $CC, cc, gcc, clang, or ziglang from PyPI).",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            "-j",
            metavar="N",
            min=1,
            show_default=False,
            help="Kernels to compile at a time (default: the number of CPUs).",
        ),
    ] = None,
    header: Annotated[bool, typer.Option("--header/--no-header", help="Write the C header as well.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show steps and schedules.")] = False,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    if whole:
        networks.check_flags(onnx, [*(descriptors or []), *(files or [])], names or [], bake)
    found = collect(descriptors or [], files or [], [] if whole else names or [])
    if onnx is None:
        models.refuse_without_model(shapes or [], layout, bake, fixed or [])
        if not found:
            raise Error("nothing to compile: expected a DESCRIPTOR, -f FILE with one a line, or --onnx MODEL")
    elif found:
        raise Error(f"--onnx {onnx}: expected no descriptors beside a model")
    check_output(output, target, header, cc)
    start = time.perf_counter()
    how: dict[str, Any] = {"prefix": prefix or "tvmconv", "cc": cc, "jobs": jobs, "verbose": verbose}
    if onnx is not None and whole:
        how |= {"prefix": prefix, "name": names[0] if names else "main"}
        library = networks.compile_library(onnx, target, shapes or [], layout, fixed or [], **how)
    elif onnx is not None:
        library = models.compile_library(onnx, target, shapes or [], layout, bake, fixed=fixed or [], **how)
    else:
        library = build(found, target, **how)
    path = library.export(output, header=header)
    report = _report(Path(path), library.manifest, time.perf_counter() - start, header)
    if as_json:
        console.print_json(report)
    else:
        _print(report, verbose)
        if whole:
            networks.print_function(library.manifest["functions"][0], verbose)


def build(
    found: Sequence[Named],
    target: str,
    *,
    prefix: str = "tvmconv",
    cc: str | None = None,
    jobs: int | None = None,
    verbose: bool = False,
) -> Library:
    """Compile named specs with a progress bar on stderr."""
    from tvmconv.compiler.compile import compile as compile_specs

    with console.progress("compiling", verbose=verbose) as step:
        return compile_specs(_request(found), target, jobs=jobs, progress=step, prefix=prefix, cc=cc)


def _request(found: Sequence[Named]) -> Any:
    if all(name is None for name, _ in found):
        return [spec for _, spec in found]
    from tvmconv.compiler.compile import default_name

    return {name or default_name(spec): spec for name, spec in found}


def check_output(output: Path, target: str, header: bool, cc: str | None) -> None:
    """Find out before a long compile that the result cannot be made or written."""
    from tvmconv.compiler.artifact.compilers import find_cc
    from tvmconv.compiler.artifact.linker import kind_of
    from tvmconv.schedules.machines import resolve_all

    if output.is_dir():
        raise Error(f"-o {output}: is a folder; expected the name of a file to write")
    machine = resolve_all(target)[0]
    kind_of(output, machine)
    if header and output.with_suffix(".h").is_dir():
        raise Error(f"-o {output}: {output.with_suffix('.h')} is a folder; expected room for a header")
    if not output.parent.is_dir():
        raise Error(f"-o {output}: no folder {output.parent}; expected one that exists")
    if not os.access(output.parent, os.W_OK):
        raise Error(f"-o {output}: {output.parent} is not writable; expected a folder that is")
    find_cc(machine, cc)


_REPORTED = (
    "name", "descriptor", "packed_bytes", "baked", "flops", "schedule", "onnx_nodes", "arguments", "steps",
    "workspace_bytes",
)  # fmt: skip


def _report(path: Path, manifest: dict[str, Any], seconds: float, header: bool) -> dict[str, Any]:
    artifacts = [("library", path)] + ([("header", path.with_suffix(".h"))] if header else [])
    return {
        "artifacts": [
            {
                "path": str(file),
                "kind": kind,
                "size": file.stat().st_size,
                "sha256": console.file_sha256(file),
            }
            for kind, file in artifacts
        ],
        "target": ", ".join(variant["name"] for variant in manifest["variants"]),
        "seconds": round(seconds, 3),
        "functions": [
            {key: function[key] for key in _REPORTED if key in function}
            for function in manifest["functions"]
        ],
    }


def _print(report: dict[str, Any], verbose: bool) -> None:
    functions = report["functions"]
    print(f"{console.count(len(functions), 'function')} for {report['target']} in {report['seconds']:.1f} s")
    console.print_table(
        ("file", "kind", "size", "sha256"),
        [(a["path"], a["kind"], console.size(a["size"]), a["sha256"]) for a in report["artifacts"]],
        right=("size",),
    )
    columns, rows = ["function", "descriptor"], [[f["name"], f["descriptor"]] for f in functions]
    if verbose:
        columns.append("schedule")
        for row, function in zip(rows, functions, strict=True):
            row.append(schedule_text(function["schedule"]))
    print()
    console.print_table(columns, rows)


def schedule_text(schedule: dict[str, Any]) -> str:
    """A function's schedule on one line: "default, depthwise", or "tuned, depthwise, RECORD", perhaps of a
    twin; and why a record was not used."""
    words = [str(schedule[key]) for key in ("source", "strategy", "record") if key in schedule]
    if "unused_record" in schedule:
        words.append(f"not {schedule['unused_record']}")
    if "twin" in schedule:
        words.append(f"the record of {schedule['twin']}")
    if "why" in schedule:
        words.append(f"for {schedule['why']}")
    return ", ".join(words)
