"""What is seen of a one-call function's first call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from terminals import on_terminal

CALLS = """
import sys
import numpy as np
import tvmconv
for _ in range(2):
    y = tvmconv.conv(np.ones((1, 8, 5, 6), np.float32), np.ones((8, 8, 1, 1), np.float32))
assert "torch" not in sys.modules  # which TVM imports where it is installed, for longer than all else takes
print("the result", y[0, 0, 0, 0])
"""
TOLD = "tvmconv: compiling conv2d:1x8x5x6:o8:k1x1:NCHW:float32"


def test_a_terminal_is_told_what_a_script_is_not(tmp_path: Path) -> None:
    command, cache = [sys.executable, "-c", CALLS], str(tmp_path / "cache")
    seen = on_terminal(command, TVMCONV_CACHE=cache)
    assert seen.count(TOLD) == 1 and seen.endswith("\r\x1b[Kthe result 8.0\r\n")
    assert on_terminal(command, TVMCONV_CACHE=cache) == "the result 8.0\r\n"  # it is in the cache by now
    elsewhere = {**os.environ, "TVMCONV_CACHE": str(tmp_path / "other")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=elsewhere, check=True)
    assert (done.stdout, done.stderr) == ("the result 8.0\n", "")
