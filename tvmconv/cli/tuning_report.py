"""What `tune` shows: progress beside the machine's roofline, and what was found."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.cli import console

if TYPE_CHECKING:
    from tvmconv.bench.roofline import Roofline
    from tvmconv.formats.logs.entries import Entry
    from tvmconv.specs.kinds import Spec
    from tvmconv.tuning.search.tuner import Status


def roofline_of(target: str, threads: int | None, specs: Iterable[Spec], log: Path | None) -> Roofline:
    """This machine's peak, to show how much of it a schedule reaches: the best of this run and of earlier
    ones on the folder, since other load only ever lowers it."""
    import os

    from tvmconv.bench import roofline
    from tvmconv.formats.logs import folder as folders
    from tvmconv.formats.logs.emulation import cpu_model, emulator
    from tvmconv.schedules.machines import Machine, resolve

    machine, dtypes = resolve(target), {spec.dtype for spec in specs}
    assert isinstance(machine, Machine)  # GPUs have their own runner
    folder = folders.folder_of(folders.user_root() if log is None else log, machine)
    folders.prepare(folder, machine, emulator() is not None)
    count = min(threads or len(os.sched_getaffinity(0)), len(os.sched_getaffinity(0)))
    about = {"cpu": cpu_model(), "threads": count, "dtypes": sorted(dtypes), "sizes": roofline.sizes()}
    kept = folder / "roofline.json"
    found = folders.read_json(kept)
    limits = roofline.measure(machine, dtypes, count)
    if found.get("about") == about:
        with suppress(KeyError, TypeError, ValueError, AttributeError):  # damaged: this run's stand
            before = roofline.Roofline(found["peak"], tuple(map(tuple, found["copies"])), count)
            limits = limits.best_with(before)
    folders.write_json(kept, {"about": about, "peak": dict(limits.peak), "copies": limits.copies})
    return limits


@contextmanager
def watching(roof: Roofline | None) -> Any:
    """A function that shows progress on stderr: a line that is replaced on a terminal, else lines."""
    if not sys.stderr.isatty():
        yield lambda status: console.log(_text(status, roof))
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(12), TextColumn("{task.fields[text]}", markup=False))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        row = bar.add_task("", total=None, text="starting")

        def show(status: Status) -> None:
            bar.update(row, completed=status.done, total=status.total, text=_text(status, roof))

        yield show


def _text(status: Status, roof: Roofline | None) -> str:
    task = status.task
    best = task.best_seconds
    parts = [f"{status.done}{'' if status.total is None else f'/{status.total}'} trials"]
    if status.left is not None:
        parts.append(f"{status.left // 60:.0f}:{status.left % 60:02.0f} left")
    if best < float("inf"):
        gflops = task.spec.flops / best / 1e9
        parts.append(f"{best * 1e6:.1f} us (default {task.default_seconds * 1e6:.1f}), {gflops:.1f} GFLOP/s")
        if roof is not None:
            least, bound = roof.seconds(task.spec.flops, task.spec.bytes, task.spec.dtype)
            parts.append(f"{100 * least / best:.0f}% of the {bound} roofline")
    parts.append(str(task.spec))  # a narrow terminal cuts off the end
    if task.failures:
        parts.append(f"{console.count(len(task.failures), 'failure')}, as {task.failures[-1][:80]}")
    return ", ".join(parts)


def facts(spec: Spec, entry: Entry) -> dict[str, Any]:
    from dataclasses import asdict

    return {"descriptor": str(spec), **asdict(entry), "gflops": spec.flops / entry.seconds / 1e9}


def print_found(found: dict[Spec, Entry]) -> None:
    columns = ("us", "default us", "gain", "GFLOP/s", "trials", "strategy", "descriptor")
    rows = [
        (
            f"{entry.seconds * 1e6:.1f}", f"{entry.default_seconds * 1e6:.1f}",
            f"{entry.default_seconds / entry.seconds:.2f}", f"{spec.flops / entry.seconds / 1e9:.1f}",
            entry.trials, entry.strategy, str(spec),
        )
        for spec, entry in found.items()
    ]  # fmt: skip
    console.print_table(columns, rows, right=columns[:5])
