"""Other engines on a whole network, each in a process of its own: ``load`` a model once, then ``sample`` it
in turns with ours."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tvmconv.base.processes import answer_lines

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]
WARM = 2  # calls before those that are timed: others have used the caches meanwhile


class Loaded(NamedTuple):
    """call: what is timed. results: of the last call, as the model has them. version: the engine's. facts:
    more about it."""

    call: Callable[[], object]
    results: Callable[[], Sequence[Array]]
    version: str
    facts: Mapping[str, Any]


def onnxruntime(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """ONNX Runtime's CPU provider, with bound inputs and results."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    session = ort.InferenceSession(files["onnx"], options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    for key, array in feeds.items():
        binding.bind_ortvalue_input(key, ort.OrtValue.ortvalue_from_numpy(array))
    for value in session.get_outputs():
        binding.bind_output(value.name)
    return Loaded(lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu,
                  ort.__version__, {})  # fmt: skip


def openvino(files: Mapping[str, str], name: str, feeds: Feeds, threads: int) -> Loaded:
    """OpenVINO's CPU plug-in, in float32, for latency."""
    import openvino as ov

    core, config = ov.Core(), {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False,
    }  # fmt: skip
    model = core.read_model(files["onnx"])
    model.reshape({key: list(array.shape) for key, array in feeds.items()})
    request = core.compile_model(model, "CPU", config).create_infer_request()
    for key, array in feeds.items():
        request.set_tensor(key, ov.Tensor(array, shared_memory=True))
    count = len(request.model_outputs)

    def results() -> list[Array]:
        return [request.get_output_tensor(number).data for number in range(count)]

    return Loaded(lambda: request.infer(share_inputs=True, share_outputs=True), results,
                  ov.__version__.partition("-")[0], {})  # fmt: skip


ENGINES: dict[str, Callable[[Mapping[str, str], str, Feeds, int], Loaded]] = {
    "onnxruntime": onnxruntime, "openvino": openvino,
}  # fmt: skip
"""Those that read an ONNX model."""


def sample(call: Callable[[], object], seconds: float) -> dict[str, Any]:
    """The median of the calls that fit into ``seconds``, at least 3."""
    times: list[float] = []
    for _ in range(WARM):
        call()
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return {"seconds": statistics.median(times), "calls": len(times)}


class Worker:
    """What the process does: ``load`` a network once, then ``sample`` it in turns."""

    def __init__(self) -> None:
        self.loaded: Loaded | None = None
        self.feeds: Feeds = {}  # which engines read where they are

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; an error's text, where the engine raises one."""
        try:
            return getattr(self, request["do"])(**request["with"])
        except Exception as problem:
            return {"error": " ".join(f"{type(problem).__name__}: {problem}".split())[:300]}

    def hold(self, file: str) -> None:
        """Read the inputs."""
        with np.load(file) as held:
            self.feeds = {key: np.ascontiguousarray(held[key]) for key in held.files}

    def load(self, engine: str, files: Mapping[str, str], name: str, threads: int) -> dict[str, Any]:
        """Set the network up and run it. ``files``: "onnx", and "feeds", an .npz of its inputs."""
        self.hold(files["feeds"])
        self.loaded = ENGINES[engine](files, name, self.feeds, threads)
        self.loaded.call()
        return {"version": self.loaded.version}

    def sample(self, seconds: float) -> dict[str, Any]:
        """See the function of this name."""
        assert self.loaded is not None
        return sample(self.loaded.call, seconds)


def serve(worker: Worker | None = None) -> None:
    """Answer requests until the input ends."""
    answer_lines((worker or Worker()).answer)
    os._exit(0)  # some engines' threads do not survive an orderly exit
