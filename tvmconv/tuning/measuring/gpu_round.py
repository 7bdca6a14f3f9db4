"""The GPU's part of a tuning round that was prepared elsewhere.

Usage: python -m tvmconv.tuning.measuring.gpu_round FOLDER

Each candidate is checked against the float64 reference and timed in turns with the default schedule, in its
own process, so that a failure costs only that candidate. Needs numpy. Writes results.json.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvmconv.base.processes import ProcessError, output

ROUND, RESULTS = "round.json", "results.json"
BASELINE = "baseline"
ROUNDS = 9
_SECONDS = 120.0  # that a candidate may take


def digest(facts: Any) -> str:
    """A hash of JSON facts, which detects edits."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def measure(folder: Path, library: str, name: str, rounds: int) -> dict[str, Any]:
    """``{"seconds": [...], "baseline": [...]}``, a mean for each round, or ``{"error": text}``."""
    import numpy as np

    from tvmconv.base.dtypes import numpy_dtype
    from tvmconv.frontends.verify import FILLS, operands, prepare
    from tvmconv.runtime import load, to_gpu
    from tvmconv.runtime.gpu.driver import driver
    from tvmconv.tuning.measuring.gpu_clock import Clock

    module = load(folder / library)
    entries = {entry["name"]: entry for entry in module.manifest["functions"]}
    cases = [prepare(entries[name], fill) for fill in FILLS]
    for case in cases:
        check = case.check(module[name])
        if not check.ok:
            wrong = f"{check.wrong} elements on {check.fill} data, error {check.max_rel:.1e}"
            return {"error": f"wrong: {wrong}"}

    def call_of(which: str):
        function: Any = module[which]  # of the GPU, as are the arrays
        arguments = entries[which]["arguments"]
        weights, inputs = operands(arguments, function.placed(cases[0].arrays))
        bound, output = function.bind(*weights), arguments[-1]
        y = to_gpu(np.zeros(output["shape"], numpy_dtype(output["dtype"])))
        on_gpu: list[Any] = [*inputs, y]
        pointers = [a._pointer for a in on_gpu]
        if bound._packed is not None:
            pointers.insert(1, bound._packed._pointer)
        return lambda _, held=(inputs, y, bound): function._entry(*pointers, None)

    with driver().on(0):
        clock, calls = Clock(), [call_of(name), call_of(BASELINE)]
        counts = [clock.calls(call) for call in calls]
        took: list[list[float]] = [[], []]
        for turn in range(rounds):
            for i in (0, 1) if turn % 2 else (1, 0):
                took[i].append(clock.round(calls[i], counts[i]) / counts[i])
    return {"seconds": took[0], "baseline": took[1]}


def run(folder: Path) -> dict[str, Any]:
    """Measure every candidate of the round in ``folder``, and write its results. Raises Error where there is
    no GPU of the round's target."""
    facts = json.loads((folder / ROUND).read_text())
    check_gpu(facts["target"])
    results: dict[str, Any] = {}
    for task in facts["tasks"]:
        for name in task["candidates"]:
            results[f"{task['library']}:{name}"] = found = alone(folder, task["library"], name)
            said = found.get("error") or f"{min(found['seconds']) * 1e6:.1f} us"
            print(f"{task['descriptor']} {name}: {said}", file=sys.stderr, flush=True)
    report = {"round": facts["id"], "gpu": gpu_name(), "results": results}
    (folder / RESULTS).write_text(json.dumps({**report, "digest": digest(report)}, indent=1))
    return report


def alone(
    folder: Path, library: str, name: str, rounds: int = ROUNDS, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """``measure`` in its own process, which a candidate may crash or hang."""
    line = [sys.executable, "-m", __spec__.name, str(folder), library, name, str(rounds)]
    try:
        return json.loads(output(line, timeout=_SECONDS, environment=environment))
    except ProcessError as problem:
        return {"error": f"running: {problem}"}


def check_gpu(target: str) -> None:
    """Raise Error unless the first GPU is of ``target``, as "cuda-sm_90": times of another mean nothing."""
    from tvmconv.base.errors import Error
    from tvmconv.runtime.gpu.driver import driver

    found = f"cuda-sm_{driver().capability(0)}"
    if found != target:
        raise Error(f"target: {target}, but {gpu_name()} is of {found}")


def gpu_name() -> str:
    """What the driver calls the first GPU."""
    from tvmconv.runtime.gpu.driver import driver

    driver()
    name = ctypes.create_string_buffer(256)
    ctypes.CDLL("libcuda.so.1").cuDeviceGetName(name, 256, 0)
    return name.value.decode()


def main(arguments: list[str]) -> None:
    folder = Path(arguments[0])
    if arguments[1:]:
        library, name, rounds = arguments[1:]
        print(json.dumps(measure(folder, library, name, int(rounds))))
        return
    from tvmconv.base.errors import Error

    try:
        run(folder)
    except Error as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
