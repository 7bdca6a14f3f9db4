"""`tvmconv bench`: how fast layers are, how fast they could be, and how fast other engines are."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvmconv.base.errors import Error
from tvmconv.cli import console, models
from tvmconv.cli.layer_times import library_of, measured, threads_of, warn_if_loaded
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
    refuse_with_library,
)
from tvmconv.cli.outputs import check_file
from tvmconv.cli.specs import looks_like_descriptor
from tvmconv.cli.static import report as static_report
from tvmconv.cli.targets import check_timed_here

if TYPE_CHECKING:
    from tvmconv.bench.own import Line
    from tvmconv.bench.roofline import Roofline

HELP = """Time layers and compare them with this machine's roofline and with other engines.

\b
Examples:
  tvmconv bench conv2d:1x56x56x128:o128:k3x3:p1:g128:NHWC:float32
  tvmconv bench conv.so dw --threads 1 --plot roofline.png
  tvmconv bench -f layers.txt --against torch,onnxruntime,litert --csv layers.csv
  tvmconv bench --onnx model.onnx --shape x=1x3x224x224 --cold
  tvmconv bench --static --target cortex-a72 conv2d:1x56x56x128:o128:k1x1:NHWC:float32

\b
µs        median of a bound call, weights prepacked and output allocated; ±: interquartile range
GB/s      every array once
roof      the least that the layer could take: its operations at the measured peak of multiply-adds, or its
          bytes at the measured speed of copying so many, whichever is more; %: that over the time, above
          100 where an algorithm saves multiplications
!         other processes took a core during nearly every sample: do not trust the line
^         above the roof, which was then measured again: other load disturbs it

--against runs each engine in a process of its own, on as many threads, with its weights prepacked and in its
fastest layout; they take turns with ours, sample by sample. Columns are their time over ours: above 1, ours
is faster. The last line is geometric means.

Of --onnx's equal layers one is timed; "count" says how many there are, "all µs" is their time together, and
the line before the last adds all of them up.

--static runs nothing: llvm-mca (Debian's llvm-19) goes through the innermost loops of the machine code, by
LLVM's model of the target's CPU.

\b
cycles    an iteration, once it runs; bound: what its busiest ports are taken for
%         of the limit that multiply-adds set, that loads and stores set (without spills), and both together
spills    loads and stores of the stack
"""

def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("bench", help=HELP, short_help="Time layers; compare with the roofline and others.")(bench)


def bench(
    subjects: Timed = None,
    files: Files = None,
    onnx: models.Onnx = None,
    shapes: models.Shapes = None,
    fixed: models.Fixed = None,
    layout: models.Layout = "auto",
    target: OneTarget = "native",
    log: ReadLogs = None,
    no_user_logs: NoUserLogs = False,
    static: Annotated[
        bool, typer.Option("--static", help="A model of the CPU, without running anything.")
    ] = False,
    cold: Annotated[bool, typer.Option("--cold", help="Flush the caches before each call.")] = False,
    against: Against = None,
    threads: Threads = None,
    rounds: Annotated[
        int, typer.Option("--rounds", "-n", metavar="N", min=1, help="Samples per layer.")
    ] = 15,
    sample_ms: SampleMs = 4.0,
    csv_file: Annotated[
        Path | None,
        typer.Option("--csv", metavar="FILE", help="Write a row per layer.", show_default=False),
    ] = None,
    plot_file: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw the roofline, a PNG.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """See HELP."""
    logs, subjects, shapes, fixed = logs_of(log, no_user_logs), subjects or [], shapes or [], fixed or []
    if static:
        if against or csv_file or plot_file:
            raise Error("--static: expected no --against, --csv or --plot: nothing is timed")
        if logs is not None:
            raise Error("--static: expected no --log or --no-user-logs: it looks at the default schedules")
        layers = models.requested(subjects, files or [], onnx, shapes, layout, "look at", fixed)
        static_report(layers, target, as_json)
        return
    is_library = bool(subjects) and not looks_like_descriptor(subjects[0])
    if is_library:
        refuse_with_library(target, logs)
    else:
        if "cuda-" in target:
            raise Error(f"--target {target}: expected a CPU; scripts/gpu_check.sh times on GPUs")
        check_timed_here(target)
    from tvmconv.bench import against as others
    from tvmconv.cli.report import figures

    peers = [] if against is None else others.chosen(against)
    if plot_file is not None:
        figures.check("--plot", "bench")
        if plot_file.suffix.lower() != ".png":
            raise Error(f"--plot {plot_file}: expected a name ending in .png")
    for option, file in (("--csv", csv_file), ("--plot", plot_file)):
        if file is not None:
            check_file(option, file)
    threads, cpus = threads_of(threads)
    warn_if_loaded()
    options = {"seconds": sample_ms / 1e3, "cold": cold}
    with tempfile.TemporaryDirectory() as folder:
        library = library_of(
            subjects, files or [], onnx, shapes, layout, target, Path(folder), fixed=fixed, logs=logs
        )
        names = subjects[1:] if is_library else []
        lines, roofline = measured(library, peers, threads, cpus, rounds, options, names)
    report(lines, roofline, peers, as_json)
    if csv_file is not None:
        _write_csv(csv_file, lines, peers)
    if plot_file is not None:
        _draw(plot_file, lines, roofline)


def _draw(path: Path, lines: list[Line], limits: Roofline) -> None:
    """Write the roofline, a PNG."""
    from tvmconv.cli.report import figures
    from tvmconv.cli.report.gathering import row_of
    from tvmconv.formats.logs.emulation import cpu_model

    if not any(line.entry["flops"] for line in lines):
        console.log(f"{path} is not drawn: no layer multiplies or adds")
        return
    path.write_bytes(figures.roofline([row_of(line) for line in lines], limits, cpu_model()))


def report(lines: list[Line], roofline: Roofline, peers: list[str], as_json: bool) -> None:
    """Print the table and the means, or JSON."""
    from tvmconv.bench import own

    means = own.means(lines, peers)
    if as_json:
        measured = {"peak": roofline.peak, "copies": [list(pair) for pair in roofline.copies]}
        facts = {"threads": roofline.threads, "cold": roofline.cold, "roofline": measured,
                 "layers": [line.facts() for line in lines], "total": own.total(lines),
                 "geometric_means": means}  # fmt: skip
        console.print_json(facts)
        return
    columns = ["layer", "µs", "±", "GFLOP/s", "GB/s", "roof µs", "bound", "%", *peers]
    rows = [list(_cells(line, peers)) for line in lines]
    total = own.total(lines)
    if total is not None:
        columns += ["count", "all µs", "share"]
        for row, line in zip(rows, lines, strict=True):
            row += [f"{line.count}", f"{line.all_us:.1f}", f"{100 * line.all_us / total['us']:.1f}%"]
        others = [f"{total['ratios'][name]:.2f}" if name in total["ratios"] else "-" for name in peers]
        rows.append(["in all", "", "", f"{total['gflops']:.1f}", f"{total['gbs']:.1f}",
                     f"{total['roof_us']:.1f}", "", f"{total['percent']:.0f}", *others,
                     f"{total['count']}", f"{total['us']:.1f}", "100.0%"])  # fmt: skip
    best = [f"{means[name]:.2f}" if means[name] else "-" for name in peers]
    rows.append(["geometric mean", f"{means['us'] or 0:.1f}", "",
                 f"{means['gflops'] or 0:.1f}", f"{means['gbs'] or 0:.1f}", "", "",
                 f"{means['percent'] or 0:.0f}", *best, *([] if total is None else [""] * 3)])  # fmt: skip
    console.print_table(columns, rows, right=[c for c in columns if c not in ("layer", "bound")])
    if peers and means["best"]:
        print(f"the best of them for each layer takes {means['best']:.2f} times as long as ours")
    peaks = ", ".join(f"{rate / 1e9:.1f} G/s in {kind}" for kind, rate in roofline.peak.items())
    copies = ", ".join(
        f"{console.size(size)} {roofline.bandwidth(size) / 1e9:.1f}" for size, _ in roofline.copies[2::3]
    )
    cold = ", caches flushed" if roofline.cold else ""
    print(f"{console.count(roofline.threads, 'thread')}{cold}; peak {peaks}; copying, GB/s: {copies}")


def _cells(line: Line, peers: Sequence[str]) -> Iterator[str]:
    from tvmconv.compiler.compile import default_name
    from tvmconv.specs.kinds import parse_spec

    roof, bound = line.roof
    name, descriptor = line.entry["name"], line.entry["descriptor"]
    unnamed = name == default_name(parse_spec(descriptor))
    yield descriptor if unnamed else f"{name}={descriptor}"
    yield f"{line.us:.1f}{'!' * bool(line.timed['doubtful'])}"
    yield f"{line.timed['iqr_us']:.1f}"
    yield f"{line.gflops:.1f}"
    yield f"{line.gbs:.1f}"
    yield f"{roof:.1f}"
    yield bound
    yield f"{line.percent:.0f}{'^' * line.exceeds}"
    for peer in peers:
        yield f"{line.peers[peer] / line.us:.2f}" if peer in line.peers else "-"


def _write_csv(path: Path, lines: list[Line], peers: list[str]) -> None:
    columns = ("name", "descriptor", "count", "us", "min_us", "iqr_us", "gflops", "gbs", "roof_us", "bound",
               "percent")  # fmt: skip
    with path.open("w", newline="", encoding="utf-8") as file:
        out = csv.writer(file)
        out.writerow([*columns, *(f"{peer}_us" for peer in peers)])
        for line in lines:
            facts = line.facts()
            out.writerow([*(facts[key] for key in columns), *(line.peers.get(peer, "") for peer in peers)])
