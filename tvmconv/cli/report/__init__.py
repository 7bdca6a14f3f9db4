"""`tvmconv report`: a page that shows where the time of a model or of layers goes, and why."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmconv.base import whole_files
from tvmconv.base.errors import Error
from tvmconv.cli import console, given, models, networks
from tvmconv.cli.layer_times import library_of, threads_of, warn_if_loaded
from tvmconv.cli.options import (
    Against,
    AsJson,
    Files,
    NoUserLogs,
    OneTarget,
    ReadLogs,
    SampleMs,
    Threads,
    Timed,
    logs_of,
)
from tvmconv.cli.outputs import check_file
from tvmconv.cli.specs import looks_like_descriptor
from tvmconv.cli.targets import check_timed_here

if TYPE_CHECKING:
    from tvmconv.cli.report.facts import Report

HELP = """Write a page that shows where the time of a model or of layers goes, and why.

\b
Examples:
  tvmconv report net.so -o net.html
  tvmconv report net.so --onnx model.onnx --against onnxruntime -o net.html
  tvmconv report model.onnx -o model.html
  tvmconv report -f layers.txt --against all --threads 1 -o layers.html

One HTML file that needs nothing else, no network either; light or dark, and fit for a phone. It shows time by
kind and by kernel with shares, the roofline as measured here, other engines' times (--against), the trials of
tuning where logs have them, each kernel's loops and assembly on a click, what lies where in the workspace,
and the manifest. Its pictures are written beside it as PNG files: model-time.png, model-roofline.png, ...

A LIBRARY is timed as it is; descriptors and models are compiled first, a model alone, or with --whole, as
one network, else its layers. A network's peers, onnxruntime and openvino, read its model: --onnx beside the
library. Kernels are compiled again to show their code (see 'tvmconv inspect --help'), which
takes about as long as compiling the library did; --no-code leaves it out.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("report", help=HELP, short_help="A page: where the time goes, and why.")(report)


def report(
    subjects: Timed = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    whole: models.Whole = False,
    target: OneTarget = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    against: Against = None,
    code: Annotated[bool, typer.Option("--code/--no-code", help="Show the kernels' code.")] = True,
    threads: Threads = None,
    rounds: Annotated[int, typer.Option("--rounds", "-n", metavar="N", min=1, help="Samples of each.")] = 9,
    sample_ms: SampleMs = 20.0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", show_default=False,
                     help="The page to write (default: named as the library or model, .html, here)."),
    ] = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """See HELP."""
    from tvmconv.cli.report import figures, page
    from tvmconv.cli.report.gathering import How, report_of

    page.check()
    figures.check()
    subjects, onnx, whole = given.whole_if_bare(subjects, onnx, whole)
    subjects, logs = list(subjects or []), logs_of(log, no_user_logs)
    library = Path(subjects[0]) if subjects and not looks_like_descriptor(subjects[0]) else None
    output = output or Path(f"{(library or onnx or Path('layers')).stem}.html")
    _check_output(output)
    if library is None:
        check_timed_here(target)
    else:
        given.expect_library(library)
        if files or shapes or fixed or whole or layout != "auto" or target != "native":
            options = "-f, --shape, --set, --layout, --whole or --target"
            raise Error(f"{library}: expected no {options} beside a library")
    if whole:
        networks.check_flags(onnx, [*subjects, *(files or [])], [], False, None)
    count, cpus = threads_of(threads)
    model = onnx if library is not None or whole else None
    how = How(count, cpus, rounds, sample_ms / 1e3, against, model, logs, code)
    warn_if_loaded()
    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder:
        if library is not None:
            found = report_of(library, library.name, subjects[1:], how)
        elif whole and onnx is not None:
            made = networks.compile_library(
                onnx, target, shapes or [], layout, fixed or [], verbose=False, tuning_logs=logs
            ).export(Path(folder, "net.so"), header=False)
            found = report_of(made, onnx.name, [], how)
        else:
            made = library_of(subjects, files or [], onnx, shapes or [], layout, target, Path(folder),
                              fixed=fixed or [], logs=logs)  # fmt: skip
            found = report_of(made, _title(files or [], onnx), [], how)
        drawn = figures.pictures(found)
        written = {output: page.page(found, drawn).encode()}
        written |= {output.with_name(f"{output.stem}-{one.name}.png"): one.png for one in drawn.values()}
    try:
        whole_files.write({file: (data, 0o666) for file, data in written.items()})
    except OSError as error:
        raise Error(f"-o {error.filename}: cannot be written: {error.strerror}") from None
    if as_json:
        console.print_json(_facts(found, list(written)))
        return
    console.print_table(
        ("file", "size"), [(file, console.size(len(data))) for file, data in written.items()], right=("size",)
    )


def _check_output(output: Path) -> None:
    if output.suffix.lower() not in (".html", ".htm"):
        raise Error(f"-o {output}: expected a name ending in .html")
    check_file("-o", output)


def _title(files: list[str], onnx: Path | None) -> str:
    if onnx is not None:
        return f"{onnx.name}, its layers"
    return ", ".join(Path(file).name for file in files if file != "-") or "layers"


def _facts(found: Report, files: list[Path]) -> dict[str, Any]:
    """What the page shows, as JSON."""
    return {
        "files": [str(file) for file in files], "title": found.title, "function": found.function,
        "target": found.target, "cpu": found.cpu, "threads": found.threads, "call_us": found.call_us,
        "total_us": found.total_us, "peers_us": dict(found.peers), "workspace_bytes": found.workspace,
        "notes": list(found.notes),
        "rows": [{**asdict(row), "all_us": row.all_us, "percent": row.percent} for row in found.rows],
    }  # fmt: skip
