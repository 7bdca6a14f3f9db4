"""The guide's code runs as it stands, and so does the example of a build script."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_models import Net, small_network
from places import SCRIPTS

import tvmconv
from tvmconv.onnx import compile_model
from tvmconv.onnx.recognising.extraction import extract
from tvmconv.onnx.using.agreement import arriving

GUIDE = Path(tvmconv.__file__).parent / "docs" / "onnx.md"
SCRIPT = SCRIPTS / "examples" / "build_kernels.py"


def test_code_of_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    onnx.save(small_network(), "model.onnx")
    compile_model("model.onnx", bake_weights=True).export("model.so")
    code = "\n".join(re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL))
    names: dict = {}
    exec(compile(code, GUIDE, "exec"), names)

    x = np.random.default_rng(0).standard_normal((1, 3, 17, 12)).astype(np.float32)
    found = extract("model.onnx")
    outputs = [value.name for value in found.model.proto.graph.output]
    expected = arriving(found, {"x": x})[found.layers[-1].y]
    (result,) = names["run"]({"x": x})
    assert len(outputs) == 1
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)


def test_example_build_script(tmp_path):
    onnx.save(small_network(("n", 3, 17, 12)), tmp_path / "model.onnx")
    command = [sys.executable, SCRIPT, "--shape", "n=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "9 layers in 9 functions" in done.stdout
    folder = tmp_path / "kernels" / "native"
    assert sorted(path.name for path in folder.iterdir()) == ["model.h", "model.json", "model.so"]
    table = json.loads((folder / "model.json").read_text())
    module = tvmconv.load(folder / "model.so")
    assert {row["function"] for row in table} == {f"model_{name}" for name in module} and len(table) == 9

    failed = subprocess.run(command[:2], cwd=tmp_path, capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("build_kernels: error: shape of 'x': missing")
    assert failed.stderr.count("\n") == 1


def test_cmake_as_the_build_script_has_it(tmp_path):
    """A first build from nothing; a second one that finds all done; one after the weights have changed."""
    if not shutil.which("cmake"):
        pytest.skip("no cmake")
    net = Net()
    net.conv("x", 4, 8, bias=True)
    model, weights = tmp_path / "model.onnx", tmp_path / "model.onnx.data"
    external = {"save_as_external_data": True, "location": weights.name, "size_threshold": 0}
    onnx.save(net.model(), model, **external)
    shutil.copy(SCRIPT, tmp_path)
    said = SCRIPT.read_text().partition("With CMake")[2]
    first, second = re.findall(r"\n\n((?:    .+\n)+)", said)[:2]
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.12)\nproject(app C)\n" + textwrap.dedent(first)
        + "add_executable(app main.c)\n" + textwrap.dedent(second)
    )  # fmt: skip
    (tmp_path / "main.c").write_text(
        '#include "model.h"\nint main(void) { return model_abi_version() != MODEL_ABI; }\n'
    )

    def run(*command):
        where = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=where)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("cmake", "-S", ".", "-B", "build", f"-DPython3_EXECUTABLE={sys.executable}")
    assert "1 layers in 1 functions" in run("cmake", "--build", "build")
    run("build/app")
    assert "layers in" not in run("cmake", "--build", "build")
    os.utime(weights)
    assert "layers in" in run("cmake", "--build", "build")
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix in (".so", ".h", ".json")) == []
