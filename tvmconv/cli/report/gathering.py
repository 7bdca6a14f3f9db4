"""From a library to what a report says of it: timed here, its kernels compiled again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error
from tvmconv.cli import console, given
from tvmconv.cli.kernels import Kernel, kernels_of
from tvmconv.cli.outputs import schedule_text
from tvmconv.cli.report import peers
from tvmconv.cli.report.curves import curves_of
from tvmconv.cli.report.facts import Buffer, Report, Row, kind_of, short

if TYPE_CHECKING:
    from tvmconv.bench.own import Line
    from tvmconv.runtime import Module


@dataclass(frozen=True)
class How:
    """How to measure, and what to leave out. ``model``: the file that a network comes from, for its peers.
    ``logs``: as for `compile`."""

    threads: int
    cpus: Sequence[int]
    rounds: int
    seconds: float
    against: str | None
    model: Path | None
    logs: Sequence[str] | None
    code: bool


def report_of(library: Path, title: str, names: Sequence[str], how: How) -> Report:
    """A library's function, if that is a network; or its layers, those of these ``names`` if there are some.
    Raises Error for a library that cannot run here, and for one of a GPU."""
    from tvmconv.formats import manifest as reader

    manifest = reader.read(library)
    functions = given.functions_of(library, manifest, names)
    if "sms" in manifest["target"]:
        shown = "'tvmconv inspect --source' and '--tir' show its code"
        raise Error(f"{library}: for a GPU, expected a CPU's library; {shown}")
    networks = [function["name"] for function in functions if "steps" in function]
    if len(networks) > 1:
        raise Error(f"{library}: {len(networks)} networks, expected NAME, one of {', '.join(networks)}")
    if networks and len(functions) > 1:
        raise Error(f"{library}: layers and a network, expected NAME of one, as {networks[0]}")
    if networks:
        return _network(library, title, functions[0], how)
    if how.model is not None:
        raise Error(f"--onnx {how.model}: expected no model beside a library of layers")
    return _layers(library, title, functions, how)


def _network(library: Path, title: str, function: dict[str, Any], how: How) -> Report:
    from tvmconv.bench.own import is_above
    from tvmconv.cli import steps as step_times
    from tvmconv.cli.run import random_inputs
    from tvmconv.formats.manifest import BUFFERS
    from tvmconv.runtime import load, set_num_threads

    engines = [] if how.against is None else peers.chosen(how.against)
    if engines and how.model is None:
        raise Error(f"--against {how.against}: needs --onnx MODEL, which {library} was compiled from")
    module, name = load(library), function["name"]
    set_num_threads(how.threads)
    with console.progress("timing") as step:
        step(0, 3, "steps")
        inputs = random_inputs(function)
        steps, roofline = step_times.timed(module, name, list(inputs.values()), None, how.threads)
        step(1, 3, "whole calls" if not engines else f"beside {', '.join(engines)}")
        times = _calls(module, function, list(inputs.values()), engines, how)
    rows = [
        Row(
            name=short(row["source"]) or row["descriptor"].partition(":")[0], nodes=tuple(row["source"]),
            descriptor=row["descriptor"], kind=kind_of(row["descriptor"]), us=row["microseconds"],
            flops=row["flops"], bytes=row["bytes"], roof_us=row.get("roof_us"), bound=row.get("bound", ""),
            exceeds=is_above(100 * row.get("roof", 0), row),
        )
        for row in steps
    ]
    buffers = function.get(BUFFERS, {}).get(module.variant, [])
    untold = "the library does not say how its workspace is used: compile it again"
    notes = [] if BUFFERS in function else [untold]
    spent = sum(row.us for row in rows)
    if not 0.8 < times[peers.OURS] / max(spent, 1e-9) < 1.25:
        apart = "a whole call and all of its steps, timed apart, do not take the same"
        notes.append(f"{apart}: other load has disturbed one of them")
    return _finished(
        library, module, [function], how, True, notes, title=title, function=name, rows=rows,
        roofline=roofline, call_us=times.pop(peers.OURS), peers=times, workspace=function["workspace_bytes"],
        buffers=[Buffer(one["value"], one["offset"], one["bytes"], one["first"] + 1, one["last"] + 1)
                 for one in buffers],
    )  # fmt: skip


def _calls(
    module: Module, function: dict[str, Any], inputs: Sequence[Any], engines: Sequence[str], how: How
) -> dict[str, float]:
    """µs of a whole call by engine, ours at least."""
    import numpy as np

    from tvmconv.runtime.arrays import aligned

    run, name = module[function["name"]], function["name"]
    given = [aligned(array) for array in inputs]
    first = run(*given)
    out = [aligned(np.empty_like(array)) for array in (first if isinstance(first, tuple) else (first,))]
    call = run.on(*given, out=out)
    if not engines or how.model is None:
        return peers.timed(call, [], Path(), {}, how.threads, how.rounds, how.seconds)
    from tvmconv.network.checking import feeds_of, networks_of

    feeds = feeds_of(networks_of(module, how.model)[name])
    return peers.timed(call, engines, how.model, feeds, how.threads, how.rounds, how.seconds)


def _layers(library: Path, title: str, functions: list[dict[str, Any]], how: How) -> Report:
    from tvmconv.bench import against
    from tvmconv.cli.layer_times import measured
    from tvmconv.runtime import load

    engines = [] if how.against is None else against.chosen(how.against)
    options = {"seconds": how.seconds, "cold": False}
    names = [function["name"] for function in functions]
    lines, roofline = measured(library, engines, how.threads, list(how.cpus), how.rounds, options, names)
    return _finished(
        library, load(library), functions, how, False, [], title=title, function=None,
        rows=[row_of(line) for line in lines], roofline=roofline, peers=dict.fromkeys(engines),
    )  # fmt: skip


def row_of(line: Line) -> Row:
    """A layer as it was timed."""
    entry, (roof, bound) = line.entry, line.roof
    nodes = entry.get("onnx_nodes", ())
    return Row(
        name=short(nodes[:1]) if nodes else entry["name"], nodes=tuple(nodes), descriptor=entry["descriptor"],
        kind=kind_of(entry["descriptor"]), us=line.us, flops=entry["flops"], bytes=entry["bytes"],
        count=max(line.count, 1), roof_us=roof, bound=bound, peers=line.peers,
        doubtful=bool(line.timed["doubtful"]), exceeds=line.exceeds,
    )  # fmt: skip


def _finished(
    library: Path, module: Module, functions: Sequence[dict[str, Any]], how: How, cold: bool,
    notes: Sequence[str], **facts: Any,
) -> Report:  # fmt: skip
    """The report with kernels, tuning and what is told of any library."""
    from tvmconv.formats.logs.emulation import cpu_model

    target, rows = module.variant, facts["rows"]
    descriptors = list(dict.fromkeys(row.descriptor for row in rows))
    kernels: dict[str, Kernel] = {}
    if how.code:
        with console.progress("compiling again") as step:
            for kernel in kernels_of(library, module.manifest, functions, target, how.logs):
                kernels.setdefault(kernel.descriptor, kernel)
                step(len(kernels), len(descriptors), kernel.descriptor)
    over = [row for row in rows if row.exceeds]
    notes = [*notes]
    if over:
        notes.append(f"{console.count(len(over), 'row')} above the roofline, which was measured twice: other "
                     "load has disturbed it")  # fmt: skip
    if any(row.doubtful for row in rows):
        notes.append("other processes took a core during nearly every sample of the rows marked !")
    return Report(
        target=target, cpu=cpu_model(), threads=how.threads, manifest=module.manifest,
        size=library.stat().st_size, kernels={text: kernels[text] for text in descriptors if text in kernels},
        schedules=_schedules(functions, kernels), curves=curves_of(descriptors, target, how.logs, cold),
        notes=notes, **facts,
    )  # fmt: skip


def _schedules(
    functions: Sequence[Mapping[str, Any]], kernels: Mapping[str, Kernel]
) -> dict[str, str]:
    """How each kernel is scheduled, by descriptor: what the manifest says, and of a network's what compiling
    again found."""
    stated = {f["descriptor"]: schedule_text(f["schedule"]) for f in functions if "steps" not in f}
    return {**{text: schedule_text(kernel.source.schedule) for text, kernel in kernels.items()}, **stated}
