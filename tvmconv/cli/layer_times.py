"""Layers timed beside the machine's roofline and other engines: what `bench` prints and `report` draws."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.cpus import available
from tvmconv.base.errors import Error
from tvmconv.cli import console, given, models
from tvmconv.cli.options import refuse_with_library
from tvmconv.cli.specs import collect, looks_like_descriptor

if TYPE_CHECKING:
    from tvmconv.bench.own import Line
    from tvmconv.bench.roofline import Roofline


def library_of(
    subjects: Sequence[str], files: Sequence[str], onnx: Path | None, shapes: Sequence[str], layout: str,
    target: str, folder: Path, *, fixed: Sequence[str] = (), logs: Sequence[str] | None = None,
) -> Path:  # fmt: skip
    """The requested library: an existing one, after which names of functions may come, or the descriptors
    compiled into ``folder``."""
    from tvmconv.cli.compile import build

    if onnx is None:
        models.refuse_without_model(shapes, layout, False, fixed)
    elif subjects or files:
        raise Error(f"--onnx {onnx}: expected no descriptors beside a model")
    if subjects and not looks_like_descriptor(subjects[0]):
        if files:
            raise Error(f"-f {files[0]}: expected no descriptors beside a library")
        refuse_with_library(target, logs)
        return given.expect_library(Path(subjects[0]))
    if onnx is not None:
        made = models.compile_library(
            onnx, target, shapes, layout, False, verbose=False, fixed=fixed, tuning_logs=logs
        )
    else:
        found = collect(subjects, files)
        if not found:
            raise Error("nothing to time: expected a DESCRIPTOR, a LIBRARY, -f FILE or --onnx MODEL")
        made = build(found, target, tuning_logs=logs)
    return made.export(folder / "bench.so", header=False)


def measured(
    library: Path, peers: list[str], threads: int, cpus: list[int], rounds: int, options: dict[str, Any],
    names: Sequence[str] = (),
) -> tuple[list[Line], Roofline]:  # fmt: skip
    """Functions of a library (no names: all), timed, and what they are compared with."""
    from tvmconv.base.clock import Flush
    from tvmconv.bench import against as others
    from tvmconv.bench import own, roofline
    from tvmconv.bench.engines.layer_data import comparable
    from tvmconv.bench.ratios import OURS
    from tvmconv.runtime import load
    from tvmconv.schedules.machines import Machine, resolve
    from tvmconv.specs.kinds import parse_spec

    module = load(library)
    machine = resolve(module.variant)
    if not isinstance(machine, Machine):
        raise Error(f"{library}: for a GPU, expected a CPU's library; scripts/gpu_check.sh times those")
    entries = [e for e in given.functions_of(library, module.manifest, names) if e["bytes"]]
    if networks := [entry["name"] for entry in entries if "steps" in entry]:
        what = f"{library}: {networks[0]} is a whole network"
        raise Error(f"{what}, expected layers; 'tvmconv run' and 'tvmconv report' time a network")
    counts = _counts(entries)
    entries = [entry for entry in entries if entry["name"] in counts]
    flush = Flush() if options["cold"] else None
    lines: list[Line] = []
    with console.progress("timing") as step, ExitStack() as stack:
        step(0, len(entries), "the machine's roofline")
        dtypes = [entry["arguments"][0]["dtype"] for entry in entries]
        limits = roofline.measure(machine, dtypes, threads, flush)
        session = None
        if peers:
            how = {**options, "library": str(library)}
            session = stack.enter_context(others.session(peers, threads, cpus, how, rounds))
        for number, entry in enumerate(entries):
            step(number, len(entries), entry["descriptor"])
            spec = parse_spec(entry["descriptor"])
            if session is not None and comparable(spec):
                row = session.time(spec, f"{number + 1}/{len(entries)}")
                ours, rest = row.detail[OURS], others.fastest(peers, row.detail)
            else:
                ours = own.time(module[entry["name"]], entry, rounds, options["seconds"], flush)
                rest = {}
            lines.append(own.Line(entry, ours, limits, rest, counts[entry["name"]]))
        if any(line.exceeds for line in lines):
            step(len(entries), len(entries), "the machine's roofline, again")
            limits = limits.best_with(roofline.measure(machine, dtypes, threads, flush))
            lines = [replace(line, roofline=limits) for line in lines]
    warn_exceeding([line.percent for line in lines if line.exceeds])
    return lines, limits


def warn_exceeding(percents: Sequence[float]) -> None:
    """Tell of layers that are faster than the roof, as measured twice."""
    if percents:
        what = f"{console.count(len(percents), 'layer')} above the roof, up to {max(percents):.0f}%"
        console.log(f"warning: {what}: other load has disturbed its measurement")


def _counts(entries: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How often a model has the layer of each function that is to be timed: of a model's equal ones, the
    first. 0 for what is not of a model."""
    first: dict[str, str] = {}
    counts: dict[str, int] = {}
    for entry in entries:
        nodes = len(entry.get("onnx_nodes", ()))
        name = first.setdefault(entry["descriptor"], entry["name"]) if nodes else entry["name"]
        counts[name] = counts.get(name, 0) + nodes
    return counts


def threads_of(threads: int | None) -> tuple[int, list[int]]:
    """How many threads, and on which CPUs; None for all that this process may use. Raises Error."""
    cpus = sorted(os.sched_getaffinity(0))
    threads = available() if threads is None else threads
    if threads > len(cpus):
        raise Error(f"--threads {threads}: expected at most {len(cpus)}, the CPUs that this process may use")
    return threads, cpus[:threads]


def warn_if_loaded() -> None:
    """Tell of load that will disturb times."""
    load = os.getloadavg()[0]
    if load > 0.3:
        console.log(f"warning: this machine is busy (load {load:.1f}); times will wobble")
