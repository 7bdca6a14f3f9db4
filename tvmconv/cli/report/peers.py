"""A network by other engines, in turns with ours."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tvmconv.base.processes import Process, ProcessError, settle
from tvmconv.cli import console

OURS = "ours"
_LOAD, _SAMPLE = 600, 120  # seconds to wait for an answer


def chosen(text: str) -> list[str]:
    """The engines for networks of a list such as "onnxruntime,openvino"; "all" for those that are installed.
    Raises Error."""
    from tvmconv.bench import against
    from tvmconv.bench.engines.whole import ENGINES

    engines = {"onnxruntime": "ort", "openvino": "openvino"}
    assert engines.keys() == ENGINES.keys()
    return against.chosen(text, engines, " for a network")


def timed(
    call: Callable[[], Any], names: Sequence[str], model: Path, feeds: Mapping[str, Any], threads: int,
    rounds: int, seconds: float,
) -> dict[str, float]:  # fmt: skip
    """µs of a call by engine, ours first: the median of ``rounds`` turns of ``seconds`` each, which they take
    round by round. An engine that cannot run the model is told of, and left out. ``feeds``: the model's
    inputs."""
    import numpy as np

    from tvmconv.bench.engines.whole import sample

    with tempfile.TemporaryDirectory(prefix="tvmconv-") as folder, ExitStack() as stack:
        file = Path(folder, "feeds.npz")
        np.savez(file, **feeds)
        running: dict[str, Process] = {}
        for name in names:
            process = Process("tvmconv.bench.engines.whole", {"OMP_NUM_THREADS": str(threads)})
            stack.callback(process.stop)
            files = {"onnx": str(model.absolute()), "feeds": str(file)}
            request = {"engine": name, "files": files, "name": model.stem, "threads": threads}
            said = _asked(process, {"do": "load", "with": request}, _LOAD)
            if "error" in said:
                console.log(f"{name} does not run {model}: {said['error']}")
            else:
                running[name] = process
        times: dict[str, list[float]] = {OURS: [], **{name: [] for name in running}}
        for _ in range(rounds):
            times[OURS].append(sample(call, seconds)["seconds"])
            for name, process in list(running.items()):
                said = _asked(process, {"do": "sample", "with": {"seconds": seconds}}, _SAMPLE)
                if "error" in said:
                    console.log(f"{name} stopped: {said['error']}")
                    del running[name], times[name]
                    continue
                times[name].append(said["seconds"])
                if process.process is not None:
                    settle(process.process.pid)  # its threads spin for a while
        return {name: statistics.median(taken) * 1e6 for name, taken in times.items()}


def _asked(process: Process, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    try:
        return process.ask(request, timeout)
    except ProcessError as problem:
        return {"error": str(problem)}
