"""Running the command line as its users do, and a small library to run it on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DW = "conv2d:1x9x9x8:o8:k3x3:p1:g8:NHWC:float32:bias:relu6"
PW = "conv2d:1x9x9x8:o16:k1x1:NHWC:float32"


TOOL = (sys.executable, "-m", "tvmconv")


def tool(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run the command; no terminal anywhere."""
    command = [*TOOL, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, **options)


def build_library(folder: Path) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A library of two functions, dw and pw, and what the command that made it printed."""
    layers = folder / "layers.txt"
    layers.write_text(f"# two layers\n\ndw={DW}   # with an epilogue\npw={PW}\n")
    path = folder / "two layers.so"
    result = tool("compile", "-f", layers, "-o", path, "--json")
    assert result.returncode == 0, result.stderr
    return path, result
