"""The README's commands and programs run as they are written, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save
from places import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8"))


def _run(command: list[str], folder: Path, **env: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _write_model(folder: Path) -> None:
    """The reader's own `model.onnx`, with its shape left open, and an input for it."""
    rng = np.random.default_rng(0)
    weights = [("w", (8, 3, 3, 3)), ("scale", (8,)), ("shift", (8,)), ("mean", (8,)), ("variance", (8,))]
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
            helper.make_node("BatchNormalization", ["c", *(name for name, _ in weights[1:])], ["n"]),
            helper.make_node("Relu", ["n"], ["y"]),
        ],
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(rng.random(shape, np.float32) + 0.5, name) for name, shape in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    save(model, folder / "model.onnx")
    np.save(folder / "x.npy", rng.random((1, 3, 224, 224), np.float32))


def test_blocks_run(tmp_path: Path) -> None:
    _write_model(tmp_path)
    # The interpreter's own folder first, so that `tvmconv` is the one under test.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    cache = str(tmp_path / "cache")
    said = []
    for language, text in BLOCKS:
        if language == "python":
            said.append(_run([sys.executable, "-c", text], tmp_path, TVMCONV_CACHE=cache))
        elif language == "sh":
            said.append(_run(["bash", "-euo", "pipefail", "-c", text], tmp_path, PATH=path))
        elif language == "c":
            name = re.match(r"/\* (\w+\.c) \*/", text)
            assert name, "a C block starts with its file name"
            (tmp_path / name[1]).write_text(text)
    # All weights are zero, so what comes out is the bias.
    assert "y[0] = 1, y[1] = 0\n" in said


def test_every_kind_of_block_is_there() -> None:
    assert [language for language, _ in BLOCKS].count("python") == 2
    assert {"python", "sh", "c", "console"} == {language for language, _ in BLOCKS}


def test_console_blocks_name_what_exists() -> None:
    """`console` blocks change the machine, so they are not run here: test_package installs the package."""
    for text in (text for language, text in BLOCKS if language == "console"):
        for line in text.splitlines():
            command = line.partition("#")[0].split()
            if command[0].startswith("scripts/"):
                assert os.access(ROOT / command[0], os.X_OK)
            else:
                assert command[:2] == ["pip", "install"]


GUIDES = [ROOT / "README.md", *sorted((ROOT / "tvmconv" / "docs").glob("*.md"))]


@pytest.mark.parametrize("folder", ["tvmconv", "schedules", "tuning_logs", "scripts", "tests"])
def test_layout_table_names_every_folder(folder: str) -> None:
    text = (ROOT / "tvmconv" / "docs" / "house.md").read_text(encoding="utf-8")
    assert f"`{folder}/" in text


@pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)
def test_named_paths_and_links_exist(guide: Path) -> None:
    text = guide.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tvmconv|schedules|tuning_logs|scripts|tests)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name
    for link in re.findall(r"\]\(([^)#:]+)\)", re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)):
        assert (guide.parent / link).exists(), link


def test_readme_is_short_and_leads_to_the_book_which_has_every_guide() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150 and "(tvmconv/docs/index.md)" in text
    index = (ROOT / "tvmconv" / "docs" / "index.md").read_text(encoding="utf-8")
    assert all(f"({guide.name})" in index for guide in GUIDES[1:] if guide.name != "index.md")
