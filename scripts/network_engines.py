"""One engine with one network, in a process of its own: what scripts/bench_networks.py asks.

Each engine is driven as its users would for the least latency: inputs and results are bound where it can, its
threads wait as it likes to within its turn.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.bench.engines import whole
from tvmconv.bench.engines.whole import Feeds, Loaded

Array = np.ndarray[Any, Any]


def ours(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """A library of the network."""
    import tvmconv.runtime as runtime
    from tvmconv.base.version import own_version
    from tvmconv.runtime.arrays import aligned

    module = runtime.load(files["so"])
    runtime.set_num_threads(threads)
    function = module["main"]
    given = [aligned(array) for array in feeds.values()]
    first = function(*given)
    results = first if isinstance(first, tuple) else (first,)
    (facts,) = module.manifest["functions"]
    return Loaded(function.on(*given, out=results), lambda: results, own_version(),
                  {"workspace": facts["workspace_bytes"]})  # fmt: skip


def apart(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """A library of the network without blocks."""
    return ours({"so": files["apart"]}, name, feeds, threads)


def litert(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """LiteRT with XNNPACK, on the .tflite of the network, images channels-last at its ends."""
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(files["tflite"], num_threads=threads)
    run.allocate_tensors()
    for detail, array in zip(run.get_input_details(), feeds.values(), strict=True):
        turned = np.ascontiguousarray(np.moveaxis(array, 1, -1)) if array.ndim == 4 else array
        run.set_tensor(detail["index"], turned)
    ends = [detail["index"] for detail in run.get_output_details()]

    def results() -> list[Array]:
        arrays = map(run.get_tensor, ends)
        return [np.moveaxis(array, -1, 1) if array.ndim == 4 else array for array in arrays]

    kinds = [op["op_name"] for op in run._get_ops_details()]
    parts = kinds.count("DELEGATE")  # each stands after those operators that it takes
    return Loaded(run.invoke, results, version("ai-edge-litert"), {"delegates": parts})


def torch(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """torch.compile with freezing, of the module that the model was exported from."""
    del sys.modules["torch"]  # processes that import TVM have none
    import network_models
    import torch
    import torch._inductor.config as inductor

    torch.set_num_threads(threads)
    inductor.freezing, inductor.cpp.threads = True, threads
    run = torch.compile(network_models.module(name))
    given = [torch.from_numpy(array) for array in feeds.values()]
    held: list[Any] = []

    def call() -> None:
        with torch.no_grad():
            held[:] = [run(*given)]

    def results() -> list[Array]:
        (found,) = held
        return [one.numpy() for one in (found if isinstance(found, tuple) else (found,))]

    return Loaded(call, results, torch.__version__, {})


ENGINES: dict[str, Callable[[Mapping[str, str], str, Feeds, int], Loaded]] = {
    "ours": ours, "apart": apart, **whole.ENGINES, "litert": litert, "torch": torch,
}


class Worker(whole.Worker):
    """With what a benchmark asks beside: results, memory, priority."""

    def load(self, engine: str, files: Mapping[str, str], name: str, threads: int) -> dict[str, Any]:
        """Set the network up and run it; its results go to a file. ``memory``: bytes that the process has
        more than before, once it has run."""
        self.hold(files["feeds"])
        before, start = resident(), time.perf_counter()
        self.loaded = ENGINES[engine](files, name, self.feeds, threads)
        for _ in range(3):
            self.loaded.call()
        ready, memory = time.perf_counter() - start, resident() - before
        np.savez(files["results"], *map(np.asarray, self.loaded.results()))
        gc.collect()
        gc.disable()
        return {"version": self.loaded.version, "ready": ready, "memory": memory, **self.loaded.facts}

    def sample(self, seconds: float, realtime: int) -> dict[str, Any]:
        """The median of the calls that fit into ``seconds``; ``realtime``: a priority for that long, which
        leaves the CPUs to nothing else; 0 for none."""
        assert self.loaded is not None
        with real_time(realtime) if realtime else contextlib.nullcontext():
            return whole.sample(self.loaded.call, seconds)


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def real_time(priority: int):
    """All threads of this process before all others of the machine, while the context lasts."""
    _schedule(os.SCHED_FIFO, priority)
    try:
        yield
    finally:
        _schedule(os.SCHED_OTHER, 0)


def _schedule(policy: int, priority: int) -> None:
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # a thread that has ended
            os.sched_setscheduler(int(task), policy, os.sched_param(priority))


def serve() -> None:
    """Answer requests until the input ends."""
    whole.serve(Worker())
