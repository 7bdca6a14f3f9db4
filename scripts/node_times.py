"""How long other engines take for each node of a model, by their own profilers, in a process of its own: what
scripts/bench_blocks.py asks.

A time is the shortest of all runs. An engine that fuses nodes gives the time of the whole to one of them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tvmconv.base.processes import answer_lines

Found = dict[str, tuple[float, int]]  # by the model's node: µs, and how many convolutions are counted for it


def onnxruntime(model: str, feeds: Mapping[str, np.ndarray], threads: int, runs: int) -> Found:
    """By ONNX Runtime's profile, which calls a fused node by one of the model's, or by the value that it
    makes. What turns layouts is no node's."""
    import onnxruntime as ort

    made = {value: node.name for node in onnx.load(model).graph.node for value in node.output}
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level, options.enable_profiling = 4, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(runs):
            session.run(None, dict(feeds))
        events = json.loads(Path(session.end_profiling()).read_text())
    best: dict[str, tuple[float, int]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            is_conv = "Conv" in event["args"]["op_name"]
            best[name] = min((event["dur"], is_conv), best.get(name, (float("inf"), is_conv)))
    return _summed((made.get(base := name.removesuffix("_nchwc"), base), us, count)
                   for name, (us, count) in best.items())  # fmt: skip


def openvino(model: str, feeds: Mapping[str, np.ndarray], threads: int, runs: int) -> Found:
    """By OpenVINO's performance counts."""
    import openvino as ov

    core, config = ov.Core(), {
        "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False, "PERF_COUNT": True,
    }  # fmt: skip
    read = core.read_model(model)
    read.reshape({key: list(array.shape) for key, array in feeds.items()})
    request = core.compile_model(read, "CPU", config).create_infer_request()
    best: dict[str, tuple[float, int]] = {}
    for _ in range(runs):
        request.infer(dict(feeds))
        for one in request.get_profiling_info():
            us, is_conv = one.real_time.total_seconds() * 1e6, one.node_type.endswith("Convolution")
            best[one.node_name] = min((us, is_conv), best.get(one.node_name, (float("inf"), is_conv)))
    return _summed((name.removesuffix("/WithoutBiases"), us, count) for name, (us, count) in best.items())


def _summed(rows: Any) -> Found:
    found: Found = {}
    for name, us, count in rows:
        before = found.get(name, (0.0, 0))
        found[name] = before[0] + us, before[1] + count
    return found


ENGINES: dict[str, Callable[..., Found]] = {"onnxruntime": onnxruntime, "openvino": openvino}


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """{"nodes": see `Found`}, or {"error": text}. ``request``: engine, model, feeds (.npz), threads, runs."""
    try:
        with np.load(request["feeds"]) as held:
            feeds = {key: np.ascontiguousarray(held[key]) for key in held.files}
        run = ENGINES[request["engine"]]
        return {"nodes": run(request["model"], feeds, request["threads"], request["runs"])}
    except Exception as problem:
        return {"error": " ".join(f"{type(problem).__name__}: {problem}".split())[:300]}


def serve() -> None:
    """Answer requests until the input ends."""
    answer_lines(answer)
