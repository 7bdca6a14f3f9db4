"""`tvmconv compile`: descriptors in, one shared library and its header out."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base.errors import Error
from tvmconv.base.processes import without_torch
from tvmconv.cli import console, given, models, networks, outputs
from tvmconv.cli.options import AsJson, DescriptorsOrModel, Files, NoUserLogs, ReadLogs, Target, logs_of
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
  tvmconv compile model.onnx
  tvmconv compile --onnx model.onnx --whole -o model.so
  tvmconv compile --onnx model.onnx --whole --weights file --shape batch=1 --shape batch=4 -o model.so

layers.txt holds one DESCRIPTOR or NAME=DESCRIPTOR per line; "#" starts a comment. Without a NAME a function
is called by its kind and a hash of the descriptor. 'tvmconv --help' explains descriptors, 'tvmconv targets'
lists the targets. A model alone, without --onnx, is compiled with --whole, to MODEL.so here if no -o says
otherwise. With --whole the library has one function, which holds the weights: main or --name, in C
after --prefix, the model's name if it is not given; with several shapes one for each, main_1x3x224x224, over
the same weights.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("compile", help=HELP, short_help="Compile descriptors into one library.")(compile_verb)


def compile_verb(
    descriptors: DescriptorsOrModel = None,
    files: Files = None,
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
    whole: models.Whole = False,
    weights: models.Weights = "baked",
    blocks: models.Blocks = "auto",
    bake: models.Bake = False,
    called: models.Names = None,
    target: Target = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix", metavar="NAME", show_default=False,
            help="Prefix of all C functions, in place of tvmconv's, or with --whole the model's name.",
        ),
    ] = None,
    soname: Annotated[
        str | None,
        typer.Option(
            "--soname", metavar="NAME", show_default=False,
            help="SONAME of a shared library (default: its file's name); in one program all have to differ.",
        ),
    ] = None,
    cc: Annotated[
        str | None,
        typer.Option(
            "--cc",
            metavar="COMMAND",
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
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The library to write: .so, or .a or .o to link into a program (default: MODEL.so).",
            show_default=False,
        ),
    ] = None,
    header: Annotated[
        Path | None,
        typer.Option("--header", metavar="FILE", show_default=False,
                     help="The C header to write (default: beside the library, named .h)."),
    ] = None,
    no_header: Annotated[bool, typer.Option("--no-header", help="Write no C header.")] = False,
    depfile: Annotated[
        Path | None,
        typer.Option("--depfile", "-MF", metavar="FILE", show_default=False,
                     help="Write what the library depends on, as a Makefile's rule."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show steps and schedules.")] = False,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    bare, (descriptors, onnx, whole) = onnx is None, given.whole_if_bare(descriptors, onnx, whole)
    if not whole and weights != "baked":
        raise Error(f"--weights {weights}: needs --whole")
    if onnx is None and blocks != "auto":
        raise Error(f"--blocks {blocks}: needs --onnx")
    if whole:
        networks.check_flags(onnx, [*(descriptors or []), *(files or [])], names or [], bake, called)
    found = collect(descriptors or [], files or [], [] if whole else names or [])
    if onnx is None:
        models.refuse_without_model(shapes or [], layout, bake, fixed or [], called)
        if not found:
            raise Error("nothing to compile: expected a DESCRIPTOR, -f FILE with one a line, or --onnx MODEL")
    elif found:
        raise Error(f"--onnx {onnx}: expected no descriptors beside a model")
    if output is None:
        if onnx is None or not bare:
            raise Error("-o FILE: missing; expected a library to write, .so, .a or .o")
        output = Path(f"{onnx.stem}.so")
    made = outputs.Outputs.of(output, header, no_header, depfile)
    with without_torch():
        made.check(target, cc, soname)
    logs = logs_of(log, no_user_logs)
    start = time.perf_counter()
    how: dict[str, Any] = {
        "prefix": prefix or "tvmconv", "cc": cc, "jobs": jobs, "verbose": verbose, "tuning_logs": logs,
    }  # fmt: skip
    with without_torch():
        if onnx is not None and whole:
            how |= {"prefix": prefix, "name": names[0] if names else "main", "weights": weights,
                    "blocks": blocks}  # fmt: skip
            library = networks.compile_library(onnx, target, shapes or [], layout, fixed or [], **how)
        elif onnx is not None:
            how |= {"fixed": fixed or [], "names": called or "node", "blocks": blocks}
            library = models.compile_library(onnx, target, shapes or [], layout, bake, **how)
        else:
            library = build(found, target, **how)
    library.export(output, header=False if made.header is None else made.header, soname=soname)
    if depfile is not None:
        made.write_depfile(outputs.inputs_of(onnx, files or [], called, target, logs))
    report = made.report(library.manifest, time.perf_counter() - start)
    if as_json:
        console.print_json(report)
    else:
        outputs.print_report(report, verbose)
        if whole:
            for facts in library.manifest["functions"]:
                networks.print_function(facts, verbose)


def build(
    found: Sequence[Named],
    target: str,
    *,
    prefix: str = "tvmconv",
    cc: str | None = None,
    jobs: int | None = None,
    verbose: bool = False,
    tuning_logs: Sequence[str] | None = None,
) -> Library:
    """Compile named specs with a progress bar on stderr; errors, and the options, as for
    ``tvmconv.compile``."""
    from tvmconv.compiler.compile import compile as compile_specs

    with console.progress("compiling", verbose=verbose) as step:
        return compile_specs(
            _request(found), target, tuning_logs, jobs=jobs, progress=step, prefix=prefix, cc=cc
        )


def _request(found: Sequence[Named]) -> Any:
    if all(name is None for name, _ in found):
        return [spec for _, spec in found]
    from tvmconv.compiler.compile import default_name

    return {name or default_name(spec): spec for name, spec in found}
