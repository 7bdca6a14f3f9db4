"""scripts/gpu_check.sh is one command where there is a GPU; here its parts run on the CPU: the folder is
packed, and its check runs with a fake driver, so that its times mean nothing."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import emulation
import pytest
from guard import in_child
from places import SCRIPTS

DEPTHWISE = "conv2d:1x6x7x8:o8:k3x3:p1:g8:NHWC:float32"
BLOCK = "block2d:1x5x6x8:e12:k3x3:p1:o8:NHWC:float32:bias:expand=relu6"
LAYERS = {
    "depthwise": {"dw": DEPTHWISE},
    "fused epilogue": {"fused": f"{DEPTHWISE}:bias:hard_swish"},
    "pointwise bf16": {"bf": "conv2d:1x4x8x32:o32:k1x1:NHWC:bfloat16"},
    "pointwise int8": {"i8": "conv2d:1x4x8x32:o32:k1x1:NHWC:int8/int32"},
    "blocks": {"b": BLOCK},
}


def script(name: str, folder: Path = SCRIPTS) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu") / "packed"
    checked = [f"{DEPTHWISE}:bias", "maxpool2d:1x6x7x8:k2x2:NHWC:float32"]
    script("gpu_pack").pack(folder, "cuda-sm_80", checked, LAYERS)
    return folder


def test_the_folder_holds_no_compiler(packed: Path) -> None:
    assert not (packed / "tvmconv" / "compiler").exists() and (packed / "tvmconv" / "runtime").exists()
    done = subprocess.run([packed / "gpu_check.sh"], capture_output=True, text=True, check=False,
                          env={"PATH": "/usr/bin:/bin", "PYTHON": sys.executable})  # fmt: skip
    assert done.returncode == 1 and "no NVIDIA driver" in done.stderr


def test_checks_times_and_report(packed: Path, tmp_path: Path) -> None:
    in_child(run_check, str(packed), str(tmp_path / "report.json"))
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["machine"]["gpu"] == "no GPU: emulated on the CPU"
    assert len(report["checks"]) == 4 and all(row["ok"] for row in report["checks"])
    rows = {row["descriptor"]: row for row in report["times"]}
    assert set(rows) == {text for layers in LAYERS.values() for text in layers.values()}
    for text in (DEPTHWISE, *LAYERS["pointwise bf16"].values(), *LAYERS["pointwise int8"].values()):
        assert rows[text]["naive_us"] > 0
    assert rows[BLOCK]["apart_us"] > 0 and "apart_over_ours" in report["summary"]["blocks"]
    assert report["copy_gbytes_s"] > 0
    assert set(report["summary"]) == set(LAYERS)


def test_a_wrong_kernel_fails_the_check(packed: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="4 checks, 4 failed"):
        in_child(run_check, str(packed), str(tmp_path / "report.json"), True)


def run_check(folder: str, out: str, wrong: bool = False) -> None:
    emulation.fake_driver()
    emulation.set_value("fake_sm", 80)
    for name in ("kinds", "layers", "naive"):
        emulation.emulate(Path(folder, f"{name}.so"))
    check = script("gpu_check", Path(folder))
    check._COPIED, check._ROTATED = 1 << 16, 1 << 16
    if wrong:
        emulation.set_value("fake_wrong", 1)
    sys.argv = ["gpu_check.py", "--out", out, *(["--only-checks"] if wrong else [])]
    assert check.main() == 0, "checks failed"


def test_compute_sanitizer_is_found(packed: Path, tmp_path: Path) -> None:
    """By a stand-in that says what it was called with; the check itself cannot run here."""
    tool = tmp_path / "compute-sanitizer"
    tool.write_text('#!/bin/sh\necho "called with $*"\n')
    tool.chmod(0o755)
    copy = tmp_path / "packed"
    shutil.copytree(packed, copy)
    done = subprocess.run([copy / "gpu_check.sh"], capture_output=True, text=True, check=False,
                          env={"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHON": sys.executable})  # fmt: skip
    assert done.returncode == 1  # no driver
    said = (copy / "gpu_sanitizer.txt").read_text()
    assert all(f"--tool {name}" in said for name in ("memcheck", "racecheck", "synccheck", "initcheck"))
