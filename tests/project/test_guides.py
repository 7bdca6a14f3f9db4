"""The first hours of the book are done, and the other commands of the guides to speed, tuning, GPUs,
networks, pictures and reports run as written, with shorter searches.

README, builds.md, onnx.md and edge.md have tests of their own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import first_hour
import pytest
from PIL import Image
from places import DOCS, SCRIPTS
from test_readme import _write_model

EXAMPLES = SCRIPTS / "examples"
# What needs a GPU, or its results: where there is none, each says so in one line.
NEEDS_GPU = re.compile(
    r"^(round/run\.sh|build-gpu/|tvmconv tune .*(--target cuda-sm_90 --trials|# here again))"
)
# Elsewhere in the tests, for it compiles a hundred layers: test_gpu_check.py.
ELSEWHERE = re.compile(r"^python scripts/gpu_pack\.py")


def later(guide: str) -> list[first_hour.Block]:
    """The blocks after the first hour."""
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    return first_hour.blocks(text.replace(first_hour.first_hour(guide), ""))


def test_every_reader_has_a_first_hour() -> None:
    assert first_hour.guides() == ["builds", "cuda", "deploy", "edge", "learn", "tuning"]


def test_other_guides_have_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["first_hour.py", "speed"])
    assert first_hour.main() == 2
    assert capsys.readouterr().err.startswith("first_hour: error: speed: expected one of builds, cuda")


def test_an_hour_that_needs_a_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(first_hour, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["first_hour.py", "edge"])
    assert first_hour.main() == 2
    said = capsys.readouterr().err
    assert "edge: arm64-root: not here, expected what 'scripts/debian_root.sh arm64 arm64-root' makes" in said
    (tmp_path / "arm64-root").mkdir()
    (tmp_path / "hour").mkdir()
    first_hour.link_roots("edge", tmp_path / "hour")
    assert (tmp_path / "hour" / "arm64-root").resolve() == tmp_path / "arm64-root"


@pytest.mark.parametrize("guide", ["builds", "cuda", "deploy", "learn", "tuning"])  # edge: test_edge_docs.py
def test_first_hour(guide: str, tmp_path: Path, record_property: Callable[[str, str], None]) -> None:
    start = time.perf_counter()
    said = list(first_hour.run(guide, tmp_path, short=True))
    record_property("first hour", f"{guide}.md: {time.perf_counter() - start:.0f} s")
    if guide == "builds":
        assert "y[0] = 0.08" in said[1] and said[2].count("1 function for") == 1
    if guide == "deploy":
        classes = [text for text in said if text.startswith("class ")]
        assert len(classes) == 4 and len(set(classes)) == 1, "C, C++, Rust and Python agree"
    if guide == "learn":
        assert "sees rows 17 to 23" in "".join(said) and (tmp_path / "stem.png").exists()
        for name in ("filters.png", "windows.png"):
            assert (tmp_path / name).stat().st_size > 5000 and (DOCS / "pictures" / name).exists()


def test_no_other_tool_has_it_shorter() -> None:
    """Each of the five jobs is done with no more words than by any other tool; our commands are in the first
    hours, so that they run."""
    text = (DOCS / "comparison.md").read_text(encoding="utf-8")
    jobs = [block.text for block in first_hour.blocks(text) if block.language == "text"]
    hours = "\n".join(map(first_hour.first_hour, first_hour.guides()))
    assert len(jobs) == 5
    for job in jobs:
        lines = re.findall(r"^(\S+) +(\S.*(?:\n .*)*)", job, re.M)
        typed = {tool: said for tool, said in lines if said != "-"}
        assert "tvmconv" in typed and len(typed) >= 3, job
        words = {tool: len(re.split(r"[ =\n]+", said.replace("\\\n", ""))) for tool, said in typed.items()}
        assert words["tvmconv"] == min(words.values()), words
        assert re.search(rf"^{re.escape(typed['tvmconv'])}( |$)", hours, re.M), job


def test_examples_are_what_the_guides_show() -> None:
    """A file of scripts/examples that a guide shows is the same there, and each is in a guide."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
    blocks = [block for text in texts.values() for block in first_hour.blocks(text)]
    for path in (path for path in EXAMPLES.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        shown = [block.text for block in blocks if block.file == path.name]
        assert all(text == path.read_text(encoding="utf-8") for text in shown), path.name
        assert shown or any(f"scripts/examples/{path.name}" in text for text in texts.values()), path.name


@pytest.fixture
def shell(tmp_path: Path):
    """Runs a line as a reader would, in a folder that has what the guides speak of."""
    _write_model(tmp_path)
    (tmp_path / "layers.txt").write_text("pw=conv2d:1x14x14x16:o32:k1x1:NHWC:float32:bias:relu6\n")
    Image.new("RGB", (300, 200), "orange").save(tmp_path / "cat.jpg")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    env = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(tmp_path / "data")}

    def run(line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", line], cwd=tmp_path, env=env, capture_output=True, text=True,
            timeout=600, check=False,
        )  # fmt: skip

    assert run("tvmconv compile -f layers.txt -o layers.so").returncode == 0
    return run


@pytest.mark.parametrize("guide", ["speed", "tuning", "cuda", "networks", "show", "report"])
def test_commands_run(guide: str, shell) -> None:
    blocks = later(guide)
    texts = [block.text.replace("\\\n", "") for block in blocks if block.language == "sh"]
    written = [line for text in texts for line in text.splitlines()]
    assert written, f"{guide} has no commands"
    if guide == "tuning":  # a folder of logs of another's, to merge; a verdict in one's own, to keep
        for log in ("--log other", ""):
            made = shell(f"tvmconv tune conv2d:1x9x9x8:o8:k1x1:NHWC:float32 --trials 1 {log}")
            assert made.returncode == 0, made.stderr
    for line in map(first_hour.shorter, written):
        line = line.replace("logs merge DIR", "logs merge other")
        if ELSEWHERE.match(line):
            continue
        done = shell(line)
        if NEEDS_GPU.match(line) and done.returncode:
            assert "Traceback" not in done.stderr and done.stderr.strip(), line
            continue
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    programs = [] if guide == "cuda" else [block.text for block in blocks if block.language == "python"]
    for source in programs:  # those of cuda.md need a GPU
        done = shell(f"python - <<'END'\n{source}\nEND")
        assert done.returncode == 0, f"{source}\n{done.stderr}"
