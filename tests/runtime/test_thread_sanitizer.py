"""A library's own C source under ThreadSanitizer, in one program with the threads that call it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import libraries
import numpy as np
import pytest
from places import DATA

REPORTED = 66  # the exit status that ThreadSanitizer is told to use
PROGRAM = DATA / "sanitized.c"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program and the library's source instrumented, the kernels as they are; the cases beside it."""
    if not shutil.which("gcc"):
        pytest.skip("no gcc")
    folder = tmp_path_factory.mktemp("sanitized")
    library = libraries.variant(names=["large", "dw"])
    (folder / "library.c").write_text(library.source().text(library.manifest))
    (folder / "library.h").write_text(library.header("library"))
    for name, kernel in library.functions.items():
        (folder / f"{name}.o").write_bytes(kernel.object)
    with open(folder / "cases.bin", "wb") as file:
        for name in ("large", "dw"):
            for array in libraries.case(name):
                file.write(np.ascontiguousarray(array, np.float32).tobytes())
    built = libraries.run(
        "gcc", "-fsanitize=thread", "-g", "-O1", "-std=gnu99", "-pthread", "-I.", PROGRAM, "library.c",
        "large.o", "dw.o", "-lm", "-o", "program", cwd=folder,
    )  # fmt: skip
    if "tsan" in built.stderr and "cannot find" in built.stderr:
        pytest.skip("no libtsan")
    assert built.returncode == 0, built.stderr
    return folder / "program"


def watched(program: Path, scenario: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "TVMCONV_NUM_THREADS": "4",
        "TSAN_OPTIONS": f"exitcode={REPORTED} die_after_fork=0",
    }
    command = [program, program.with_name("cases.bin"), scenario]
    done = libraries.run(command, env=environment)
    if "unexpected memory mapping" in done.stderr:  # addresses more random than this libtsan knows
        done = libraries.run("setarch", "-R", command, env=environment)
    return done


@pytest.mark.parametrize("scenario", ["callers", "resize", "launches", "fork"])
def test_no_data_races(program: Path, scenario: str) -> None:
    """Concurrent first calls; resizing meanwhile; nested, busy and failing launches; forks, idle and busy."""
    done = watched(program, scenario)
    assert (done.returncode, done.stdout, done.stderr) == (0, "right\n", "")


def test_a_data_race_would_be_seen(program: Path) -> None:
    done = watched(program, "race")
    assert done.returncode == REPORTED and "data race" in done.stderr
