"""The command line: one-line errors, clean streams, interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_tools import DW, PW, TOOL, build_library, tool
from terminals import on_terminal


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("cli"))[0]


def assert_one_line_error(result: subprocess.CompletedProcess[str], *words: str) -> None:
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("tvmconv: error: ") and result.stderr.count("\n") == 1, result.stderr
    for word in words:
        assert word in result.stderr


USER_ERRORS = {
    "unknown verb": (["compil"], "compil"),
    "unknown option": (["targets", "--jsn"], "--jsn"),
    "no output": (["compile", PW], "-o FILE: missing"),
    "nothing to compile": (["compile", "-o", "a.so"], "DESCRIPTOR"),
    "bad descriptor": (["compile", "conv2d:1x9x9x8:o16", "-o", "a.so"], "conv2d:1x9x9x8:o16"),
    "bad groups": (["compile", "conv2d:1x9x9x8:o16:k3x3:g3:NHWC:float32", "-o", "a.so"], "groups"),
    "bad name": (["compile", f"2nd={PW}", "-o", "a.so"], "2nd"),
    "name twice": (["compile", f"a={PW}", f"a={DW}", "-o", "a.so"], "twice"),
    "too many names": (["compile", PW, "--name", "a", "--name", "b", "-o", "a.so"], "--name"),
    "no such file": (["compile", "-f", "none.txt", "-o", "a.so"], "none.txt"),
    "bad line": (["compile", "-f", "bad.txt", "-o", "a.so"], "bad.txt:2"),
    "no such folder": (["compile", PW, "-o", "none/a.so"], "none"),
    "output is a folder": (["compile", PW, "-o", "."], "folder"),
    "unknown target": (["compile", PW, "-o", "a.so", "--target", "x86-64-v33"], "x86-64-v3"),
    "bad compiler": (["compile", PW, "-o", "a.so", "--cc", "no-such-cc"], "no-such-cc"),
    "bad prefix": (["compile", PW, "-o", "a.so", "--prefix", "a-b"], "a-b"),
    "run: no such library": (["run", "none.so"], "none.so"),
    "run: no library": (["run", "bad.txt"], "bad.txt"),
    "run: no such function": (["run", "{library}", "nope"], "dw"),
    "run: which function": (["run", "{library}", "--input", "x.npy"], "dw, pw"),
    "run: no array": (["run", "{library}", "pw", "--input", "bad.txt"], "bad.txt"),
    "run: no such array": (["run", "{library}", "pw", "--input", "none.npy"], "none.npy"),
    "run: bad shape": (["run", "{library}", "pw", "--input", "x.npy"], "1x9x9x8|(1, 9, 9, 8)"),
    "run: no such argument": (["run", "{library}", "pw", "--input", "bias=x.npy"], "bias"),
    "run: no rounds": (["run", "{library}", "--rounds", "0"], "rounds"),
    "verify: two kinds": (["verify", "{library}", PW], "function"),
    "verify: no such function": (["verify", "{library}", "nope"], "nope"),
    "inspect: truncated": (["inspect", "short.so"], "short.so"),
    "inspect: edited": (["inspect", "edited.so"], "edited.so"),
    "inspect: no library": (["inspect", "none.so"], "none.so"),
}


@pytest.mark.parametrize("case", USER_ERRORS)
def test_user_errors_are_one_line(case: str, library: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text(f"{PW}\nconv9d:1\n")
    np.save(tmp_path / "x.npy", np.zeros((1, 9, 9, 7), np.float32))
    content = library.read_bytes()
    (tmp_path / "short.so").write_bytes(content[: len(content) // 2])
    (tmp_path / "edited.so").write_bytes(content.replace(b"relu6", b"relu5"))
    arguments, words = USER_ERRORS[case]
    result = tool(*(word.format(library=library) for word in arguments), cwd=tmp_path)
    assert_one_line_error(result)
    assert any(word in result.stderr for word in words.split("|")), result.stderr
    assert not (tmp_path / "a.so").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_on_stdout() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "tvmconv", "targets"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert result.returncode == 2
    assert result.stderr == "tvmconv: error: No space left on device\n"


def test_missing_typer_names_the_extra() -> None:
    code = (
        "import sys; sys.modules['typer'] = None\nfrom tvmconv.cli import main\nsys.exit(main(['targets']))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert_one_line_error(result, "tvmconv[cli]")


def test_missing_compiler_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['tvm'] = None\n"
        "from tvmconv.cli import main\n"
        f"sys.exit(main(['compile', {PW!r}, '-o', {str(tmp_path / 'a.so')!r}]))"
    )
    empty = {**os.environ, "TVMCONV_CACHE": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=300, env=empty
    )
    assert_one_line_error(result, "tvmconv[compile]")


def test_reader_that_goes_away(library: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        command = [sys.executable, "-m", "tvmconv", "inspect", str(library)]
        result = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=300)
    finally:
        os.close(write)
    assert result.returncode == 1 and result.stderr == ""


def test_interrupt_is_quiet(library: Path) -> None:
    # A shell gives its background jobs an ignored SIGINT, and these tests may be one.
    listens = f"import signal; signal.signal({int(signal.SIGINT)}, signal.default_int_handler)"
    program = f"{listens}; import sys; from tvmconv.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "run", str(library), "--rounds", "10000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        time.sleep(3)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "")


def test_colour_only_where_wanted(library: Path) -> None:
    environment = {key: "" for key in ("NO_COLOR", "FORCE_COLOR") if key in os.environ}
    assert "\x1b[1m" in on_terminal([*TOOL, "inspect", library], **environment)
    plain = on_terminal([*TOOL, "verify", library], NO_COLOR="1")
    assert "\x1b[3" not in plain and "0 failed" in plain
    assert "\x1b" not in tool("inspect", library).stdout
