"""llvm-mca: what LLVM's scheduling model of a CPU says about a loop."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tvmconv.base.errors import Error, TargetError
from tvmconv.bench.static_cost.assembly import Instruction
from tvmconv.schedules.llvm import features_of
from tvmconv.schedules.machines import Machine

_NAMES = ("llvm-mca-19", *(f"llvm-mca-{n}" for n in range(30, 14, -1)), "llvm-mca")
_RUNS = (100, 300)  # iterations; between them a loop is in its steady state


@dataclass(frozen=True)
class Estimate:
    """Of one iteration of a loop. ``bound``: the cycles that its busiest resource takes; ``pressure``: cycles
    of each resource. ``model``: whose resources they are."""

    model: str
    cycles: float
    bound: float
    uops: float
    dispatch: int
    pressure: dict[str, float]


def find() -> str:
    """llvm-mca's path. Raises Error where there is none."""
    for name in _NAMES:
        path = shutil.which(name)
        if path:
            return path
    raise Error("llvm-mca: not found, expected Debian's package llvm-19, or any llvm-mca from 15 on in PATH")


def estimate(loop: Sequence[Instruction], machine: Machine) -> Estimate:
    """What ``loop`` costs on ``machine``, with everything in the nearest cache. Raises Error and
    TargetError."""
    text = "\n".join(i.text for i in loop)
    few, many = (_run(text, machine, runs) for runs in _RUNS)
    summary, first = many["SummaryView"], few["SummaryView"]
    names = many["resources"]
    pressure = dict.fromkeys(names, 0.0)
    usage = many["ResourcePressureView"]["ResourcePressureInfo"]
    for cell in usage:
        if cell["InstructionIndex"] == len(many["Instructions"]):  # the row of totals
            pressure[names[cell["ResourceIndex"]]] = cell["ResourceUsage"]
    return Estimate(
        model=_model(names),
        cycles=(summary["TotalCycles"] - first["TotalCycles"]) / (_RUNS[1] - _RUNS[0]),
        bound=summary["BlockRThroughput"],
        uops=summary["TotaluOps"] / _RUNS[1],
        dispatch=summary["DispatchWidth"],
        pressure={name: cycles for name, cycles in pressure.items() if cycles},
    )


def busiest(loop: Iterable[Instruction], machine: Machine) -> float:
    """The cycles that the busiest resource takes for these instructions alone."""
    text = "\n".join(i.text for i in loop)
    return _run(text, machine, 1)["SummaryView"]["BlockRThroughput"] if text else 0.0


@lru_cache(maxsize=256)
def _run(text: str, machine: Machine, iterations: int) -> dict[str, Any]:
    features = ",".join(f"+{name}" for name in sorted(features_of(machine)))
    command = [find(), f"-mtriple={machine.triple}", f"-mcpu={machine.cpu}", f"-mattr={features}", "--json",
               f"-iterations={iterations}", "-"]  # fmt: skip
    done = subprocess.run(
        command, input=text, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
    )
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or [f"exit {done.returncode}"]
        raise TargetError(f"llvm-mca for {machine.cpu}: {said[0].removeprefix('error: ')}")
    found = json.loads(done.stdout)
    names, seen = [], {}
    for name in found["TargetInfo"]["Resources"]:
        base, _, _ = name.partition(".")
        seen[base] = seen.get(base, -1) + 1
        names.append(f"{base}.{seen[base]}" if name != base else name)
    return {**found["CodeRegions"][0], "resources": names}


def _model(resources: Sequence[str]) -> str:
    """The name of a scheduling model: LLVM calls a resource by its model's, "Unit" or "Port", and its own."""
    named = re.search(r"\b(\w+?)(Unit|Port|Pipe)", " ".join(resources))
    return named[1] if named else resources[0]
