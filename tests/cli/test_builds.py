"""The guide's build files, each on a clean folder: a first build, a second that finds all done, and one after
the external weights have changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import first_hour
import onnx
import pytest
from onnx_models import Net
from places import DOCS

BLOCKS = first_hour.blocks((DOCS / "builds.md").read_text(encoding="utf-8"))


def _run(command: str, folder: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(["sh", "-ec", command], cwd=folder, capture_output=True, text=True, timeout=900,
                          env={**os.environ, "PATH": path})  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("tool", ["cmake", "meson", "make"])
def test_a_build(tool: str, tmp_path: Path) -> None:
    net = Net()
    net.op("Relu", net.conv("x", 4, 8, bias=True))
    model = net.model()
    model.graph.node[-1].output[0] = model.graph.output[0].name = "y"
    external = {"save_as_external_data": True, "location": "w.bin", "size_threshold": 0}
    onnx.save(model, tmp_path / "model.onnx", **external)
    kinds = [block.language for block in BLOCKS]
    for block in (BLOCKS[kinds.index(tool)], BLOCKS[kinds.index("c")]):
        (tmp_path / block.file).write_text(block.text)
    commands = BLOCKS[kinds.index(tool) + 1].text
    assert "y[0] = " in _run(commands, tmp_path)
    (library,) = (path for path in tmp_path.rglob("*") if path.name in ("libmodel.so", "model.a"))
    made = library.stat().st_mtime_ns
    assert "1 function for" not in _run(commands.replace("meson setup build\n", ""), tmp_path)
    assert library.stat().st_mtime_ns == made
    weights = tmp_path / "w.bin"
    weights.write_bytes(bytes(len(weights.read_bytes())))
    assert "y[0] = 0" in _run(commands, tmp_path)
    assert library.stat().st_mtime_ns != made
