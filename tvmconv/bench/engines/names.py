"""The engines that can be compared. Each is driven in a process of its own (worker.py).

An engine lists its *ways* of running one layer: for example, ONNX Runtime on plain NCHW data and on the
blocked data that it uses inside a network. Whatever a user would pay once for a model (reordering weights,
building the graph, padding that the engine cannot express) happens before the clock starts; the fastest way
is kept. Arrays arrive channels-first (x: N C spatial, w: O I spatial); every way converts them to its
preferred layout.
"""

from __future__ import annotations

import importlib.util

from tvmconv.bench.engines.litert import LiteRt
from tvmconv.bench.engines.onnxruntime import OnnxRuntime
from tvmconv.bench.engines.openvino import OpenVino
from tvmconv.bench.engines.pytorch import Torch
from tvmconv.bench.engines.ways import Engine, Ours

ENGINES: dict[str, type[Engine]] = {
    "ours": Ours, "torch": Torch, "torch-cl": Torch, "onednn": Torch,
    "ort": OnnxRuntime, "ort-nchwc": OnnxRuntime, "litert": LiteRt, "openvino": OpenVino,
}  # fmt: skip


def missing(engine: str) -> str | None:
    """The first module that the engine needs and this Python lacks, or None."""
    return next((m for m in ENGINES[engine].modules if importlib.util.find_spec(m) is None), None)
