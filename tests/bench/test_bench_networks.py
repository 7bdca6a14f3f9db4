"""scripts/bench_networks.py on a small network, with all peers that read models. Times mean nothing here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import places
import pytest
from onnx import TensorProto, helper
from small_networks import model, node, weights

pytest.importorskip("openvino")
interpreter = pytest.importorskip("ai_edge_litert.interpreter")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stem, a shuffle unit of two halves, squeeze-and-excite, a classifier."""
    held = weights(w=(16, 3, 3, 3), b=(16,), dw=(8, 1, 3, 3), db=(8,), se=(16, 16, 1, 1), sb=(16,),
                   fw=(10, 16), fb=(10,))  # fmt: skip
    shapes = {"apart": np.array([1, 2, 8, 8, 8]), "joined": np.array([1, 16, 8, 8])}
    nodes = [
        node("Conv", "x w b", "c", pads=[1] * 4, strides=[2, 2]), node("Relu", "c", "r"),
        node("MaxPool", "r", "p", kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4),
        helper.make_node("Split", ["p"], ["left", "right"], axis=1),
        node("Conv", "right dw db", "d", group=8, pads=[1] * 4), node("HardSwish", "d", "h"),
        node("Concat", "left h", "j", axis=1), node("Reshape", "j apart", "s0"),
        node("Transpose", "s0", "s1", perm=[0, 2, 1, 3, 4]), node("Reshape", "s1 joined", "s2"),
        node("GlobalAveragePool", "s2", "g"), node("Conv", "g se sb", "e"), node("Sigmoid", "e", "f"),
        node("Mul", "s2 f", "m"), node("GlobalAveragePool", "m", "n"), node("Flatten", "n", "o"),
        node("Gemm", "o fw fb", "q", transB=1), node("Softmax", "q", "y"),
    ]  # fmt: skip
    made = model(*nodes, shape=(1, 3, 32, 32), **held, **shapes)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 10)))
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    onnx.save(made, path)
    return path


def test_table(path: Path) -> None:
    """Each engine agrees with onnxruntime, or its column would be empty."""
    command = [sys.executable, str(places.SCRIPTS / "bench_networks.py"), str(path), "--threads", "1",
               "--rounds", "1", "--turn-ms", "1"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    table, memory = done.stdout.split("\n\n")
    head, row, mean = table.splitlines()
    assert head.split()[4:8] == ["ours", "ORT", "OpenVINO", "LiteRT"]
    times = [float(cell) for cell in row.split()[2:6]]
    assert row.split()[0] == "small" and min(times) > 0, done.stderr
    assert 0.3 < float(row.split()[6]) * times[0] / min(times[1:]) < 3  # of times in print
    assert mean.startswith("all, 1 threads: ")
    assert all(float(cell) >= 0 for cell in memory.splitlines()[1].split()[2:])


def test_tflite_is_delegated_whole(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """XNNPACK takes the shuffle, the split and the rest: what it does not take would run on slow code."""
    monkeypatch.syspath_prepend(str(places.SCRIPTS))
    from network_tflite import write

    write(path, {}, tmp_path / "small.tflite")
    run = interpreter.Interpreter(str(tmp_path / "small.tflite"), num_threads=1)
    run.allocate_tensors()
    kinds = [op["op_name"] for op in run._get_ops_details()]
    assert kinds.count("DELEGATE") == 1 and kinds[-1] == "DELEGATE"
