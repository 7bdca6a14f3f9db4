"""Tuning in rounds for a GPU elsewhere: candidates are built here, timed there, and learnt from here.

A round is a folder: libraries of candidates, the runtime, ``round.json`` and ``run.sh``, which writes
``results.json`` on the machine with the GPU. The next round begins with the results of the last one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvmconv.base.errors import TuningError
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.choice import META, Choice
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.logs import folder as folders
from tvmconv.schedules.gpu_machines import GpuMachine
from tvmconv.schedules.machines import resolve
from tvmconv.specs.kinds import Spec
from tvmconv.tuning.measuring import gpu_round
from tvmconv.tuning.measuring.builder import BATCH, Builder
from tvmconv.tuning.measuring.carried import carry
from tvmconv.tuning.measuring.gpu import check_one
from tvmconv.tuning.measuring.gpu_round import BASELINE, RESULTS, ROUND
from tvmconv.tuning.measuring.runner import Measured
from tvmconv.tuning.search.database import FAILED
from tvmconv.tuning.search.task import MARGIN, Place, Task
from tvmconv.tuning.search.tuner import SPACES

_SCRIPT = """#!/bin/sh
# Times this round's candidates on this machine's GPU and writes results.json. Needs Python 3.10 and numpy.
cd "$(dirname "$0")" && PYTHONPATH=. exec "${PYTHON:-python3}" -m tvmconv.tuning.measuring.gpu_round .
"""


def offline_round(
    specs: Mapping[Spec, int], target: str, root: str | os.PathLike[str] | None,
    folder: str | os.PathLike[str], trials: int = BATCH, seed: int = 0, space: str = SPACES[0],
) -> dict[str, Any]:  # fmt: skip
    """Read the results of the round in ``folder`` into the logs, if there is one, and make the next.

    ``trials``: candidates of a spec in a round; ``space``: one of ``SPACES``. Returns what was read and made.
    Raises TuningError for a round without results, with another round's, with incomplete or edited ones, or
    for another target.
    """
    machine, place = resolve(target), Path(folder)
    if not isinstance(machine, GpuMachine):
        raise TuningError(f"target: {target!r}, expected one cuda target: rounds are for GPUs elsewhere")
    check_one(machine)
    if space not in SPACES:
        raise TuningError(f"space: {space!r}, expected one of {', '.join(SPACES)}")
    facts, results = _read(place, machine)
    logs = folders.folder_of(folders.user_root() if root is None else root, machine)
    folders.prepare(logs, machine)
    gpu = results["gpu"] if results else "unknown"
    builder = Builder(machine, len(os.sched_getaffinity(0)))
    try:
        at = Place(machine, logs, builder, None, 1, gpu)
        searched = META if space == META else None
        tasks = {str(spec): Task(spec, at, weight, searched, seed) for spec, weight in specs.items()}
        read = _learn(tasks, facts, results) if facts and results else 0
        made = _write(place, machine, tasks, trials, seed, 1 + (facts or {"number": 0})["number"])
    finally:
        builder.stop()
    return {"folder": str(place), "read": read, "candidates": made,
            "best": {d: _verdict(task) for d, task in tasks.items() if task.entry}}  # fmt: skip


def _verdict(task: Task) -> dict[str, Any]:
    return {"us": task.entry.seconds * 1e6, "default_us": task.entry.default_seconds * 1e6,
            "strategy": task.entry.strategy, "point": task.entry.point}  # fmt: skip


def _read(place: Path, machine: GpuMachine) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The round in a folder and its results; nothing if there is none. Raises TuningError."""
    if not (place / ROUND).exists():
        if place.exists() and any(place.iterdir()):
            raise TuningError(f"--offline-round {place}: no round, expected one, or a new folder")
        return None, None
    facts, results = folders.read_json(place / ROUND), folders.read_json(place / RESULTS)
    if facts.get("id") != gpu_round.digest({k: v for k, v in facts.items() if k != "id"}):
        raise TuningError(f"--offline-round {place}: {ROUND} was edited, expected what made the round")
    if facts.get("target") != machine.name:
        made_for = facts.get("target")
        raise TuningError(f"--offline-round {place}: a round for {made_for}, expected {machine.name}")
    if not results:
        raise TuningError(f"--offline-round {place}: no {RESULTS} yet, expected run.sh to have been run")
    stated = results.pop("digest", None)
    if results.get("round") != facts["id"]:
        raise TuningError(f"--offline-round {place}: {RESULTS} is of another round than {facts['id'][:12]}")
    if stated != gpu_round.digest(results):
        raise TuningError(f"--offline-round {place}: {RESULTS} was edited, expected what run.sh wrote")
    wanted = {f"{t['library']}:{name}" for t in facts["tasks"] for name in t["candidates"]}
    missing = sorted(wanted - set(results["results"]))
    if missing:
        raise TuningError(f"--offline-round {place}: {RESULTS} lacks {len(missing)} entries, as {missing[0]}")
    return facts, results


def _learn(tasks: Mapping[str, Task], facts: dict[str, Any], results: dict[str, Any]) -> int:
    """Put a round's results into the log, and its best schedules into the index; returns the number of
    results."""
    count = 0
    for row in facts["tasks"]:
        task = tasks.get(row["descriptor"])
        if task is None:
            raise TuningError(f"specs: without {row['descriptor']}, expected those of the round")
        best: tuple[float, Choice, Measured] | None = None
        for name, choice in row["candidates"].items():
            measured = Measured(**results["results"][f"{row['library']}:{name}"])
            candidate = task._candidate(Choice(**choice))
            if measured.baseline:
                task.default_seconds = min(measured.baseline)
            task._note(candidate, measured)
            seconds = FAILED if measured.error else measured.ratio * task.default_seconds
            if task.space.holds(candidate.choice):  # else of a round that another space was asked for
                task.search.recall(candidate.choice, seconds)
            count += 1
            if not measured.error and (best is None or measured.ratio < best[0]):
                best = measured.ratio, candidate.choice, measured
        if best is None or not math.isfinite(task.default_seconds):
            continue
        ratio, choice, measured = best
        known = task.entry.seconds / task.entry.default_seconds if task.entry else 1.0
        if ratio < MARGIN * known:
            task._enter(choice, measured.seconds, min(measured.baseline))
        elif task.entry is None:
            task._enter(task.space.default, measured.baseline, min(measured.baseline))
    return count


def _write(
    place: Path, machine: GpuMachine, tasks: Mapping[str, Task], trials: int, seed: int, number: int
) -> int:
    """Make a round; returns the number of candidates."""
    rows, libraries = [], {}
    for index, (descriptor, task) in enumerate(tasks.items()):
        proposed = [candidate.choice for candidate in task.search.propose(trials)]
        built = task.place.builder.build(task.spec, [task.space.default, *proposed])
        if not isinstance(built[0], Kernel):
            raise TuningError(f"{descriptor}: its default schedule cannot be built: {built[0]}")
        kernels = {f"c{i}": kernel for i, kernel in enumerate(built[1:])}
        for (name, kernel), choice in zip(list(kernels.items()), proposed, strict=True):
            if not isinstance(kernel, Kernel):  # known from now on, and not sent
                task._note(task._candidate(choice), Measured(error=str(kernel)))
                del kernels[name]
        chosen = {f"c{i}": {"strategy": c.strategy, "point": c.point} for i, c in enumerate(proposed)}
        library = f"task{index}.so"
        libraries[library] = Library({BASELINE: built[0], **kernels}, machine)
        rows.append({"descriptor": descriptor, "library": library,
                     "candidates": {name: chosen[name] for name in kernels}})  # fmt: skip
    facts = {"format": 1, "number": number, "target": machine.name, "seed": seed, "tasks": rows}
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, made in libraries.items():
        made.export(place / name, header=False)
    carry(place)
    (place / "run.sh").write_text(_SCRIPT)
    (place / "run.sh").chmod(0o755)
    (place / ROUND).write_text(json.dumps({**facts, "id": gpu_round.digest(facts)}, indent=1))
    return sum(len(row["candidates"]) for row in rows)
