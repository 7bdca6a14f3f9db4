"""Shells complete verbs, options, targets and a library's functions: asked as each of them asks."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_tools import build_library

BASH = """eval "$(_TVMCONV_COMPLETE=source_bash tvmconv)"
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_tvmconv_completion tvmconv
echo "${{COMPREPLY[@]}}"
"""
# zsh's own functions for what is on offer print it instead.
ZSH = """compdef() {{ : }}
_arguments() {{ print -r -- "$@" | tr -d '*:()"' | tr '\\n' ' ' }}
_files() {{ : }}
eval "$(_TVMCONV_COMPLETE=source_zsh tvmconv)"
words=({words}); CURRENT=$#words
_tvmconv_completion
"""
FISH = """_TVMCONV_COMPLETE=source_fish tvmconv | source
complete -C {line} | string join ' '
"""
CASES = [
    ("bash", "tvmconv ver", "verify"),
    ("bash", "tvmconv run conv.so dw ''", "pw"),
    ("bash", "tvmconv verify conv.so d", "dw"),
    ("bash", "tvmconv run none.so d", ""),
    ("bash", "tvmconv compile -t cortex-a72,cortex-a5", "cortex-a72,cortex-a53"),
    ("bash", "tvmconv bench --against torch,o", "torch,onnxruntime torch,openvino"),
    ("zsh", "tvmconv inspect conv.so p", "pw"),
    ("fish", "tvmconv tune --target cuda-sm_9", "cuda-sm_90"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion")
    build_library(path)
    (path / "two layers.so").rename(path / "conv.so")
    return path


@pytest.mark.parametrize(("shell", "line", "offered"), CASES)
def test_offers(shell: str, line: str, offered: str, folder: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    script = {"bash": BASH, "zsh": ZSH, "fish": FISH}[shell].format(words=line, line=shlex.quote(line))
    quiet = {"bash": "--norc", "zsh": "-f", "fish": "--no-config"}[shell]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run([shell, quiet, "-c", script], cwd=folder, env={**os.environ, "PATH": path},
                          capture_output=True, text=True, timeout=120, check=False)  # fmt: skip
    assert done.stdout.split() == offered.split(), done.stderr
