"""The commands of the guides to speed, tuning, GPUs and networks run as written, with shorter searches.

README, onnx.md and edge.md have tests of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_readme import BLOCK, ROOT, _write_model

SHORTER = (
    (r"--trials \d+", "--trials 2"), (r"--minutes \d+", "--minutes 0.05"),
    (r"--rounds \d+", "--rounds 1"), (r"logs merge DIR", "logs merge other"),
)  # fmt: skip
# What needs a GPU, or its results: where there is none, each says so in one line.
NEEDS_GPU = re.compile(
    r"^(round/run\.sh|build-gpu/|tvmconv tune .*(--target cuda-sm_90 --trials|# here again))"
)
# Elsewhere in the tests, for it compiles a hundred layers: test_gpu_check.py.
ELSEWHERE = re.compile(r"^python scripts/gpu_pack\.py")


def commands(guide: str) -> list[str]:
    text = (ROOT / "tvmconv" / "docs" / guide).read_text(encoding="utf-8")
    blocks = [block for language, block in BLOCK.findall(text) if language == "sh"]
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines, f"{guide} has no commands"
    return lines


@pytest.fixture
def shell(tmp_path: Path):
    """Runs a line as a reader would, in a folder that has what the guides speak of."""
    _write_model(tmp_path)
    (tmp_path / "layers.txt").write_text("pw=conv2d:1x14x14x16:o32:k1x1:NHWC:float32:bias:relu6\n")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(tmp_path / "data")}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    assert run("tvmconv compile -f layers.txt -o layers.so").returncode == 0
    return run


@pytest.mark.parametrize("guide", ["speed.md", "tuning.md", "cuda.md", "networks.md"])
def test_commands_run(guide: str, shell) -> None:
    if guide == "tuning.md":  # a folder of logs of somebody else's, to merge
        made = shell("tvmconv tune conv2d:1x9x9x8:o8:k1x1:NHWC:float32 --trials 1 --log other")
        assert made.returncode == 0, made.stderr
    for written in commands(guide):
        line = written
        for pattern, shorter in SHORTER:
            line = re.sub(pattern, shorter, line)
        if ELSEWHERE.match(line):
            continue
        done = shell(line)
        if NEEDS_GPU.match(line) and done.returncode:
            assert "Traceback" not in done.stderr and done.stderr.strip(), line
            continue
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    text = (ROOT / "tvmconv" / "docs" / guide).read_text(encoding="utf-8")
    written = [] if guide == "cuda.md" else BLOCK.findall(text)  # where there is no GPU
    for source in (block for language, block in written if language == "python"):
        done = shell(f"python - <<'END'\n{source}\nEND")
        assert done.returncode == 0, f"{source}\n{done.stderr}"
