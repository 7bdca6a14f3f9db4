"""The fuzzer, for a minute, and what it found before (``tests/reproducers``), all of which must end well.

``pytest tests/project/test_fuzz.py --fuzz-seconds 3600 --fuzz-seed 1`` looks longer, and elsewhere. A failure
prints a JSON object: put it, shortened, into a file of ``tests/reproducers``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fuzzing
import guard
import pytest
from places import REPRODUCERS, SUPPORT

import tvmconv

CASES = sorted(REPRODUCERS.glob("*.json"))
HANG = 120.0  # seconds, more than any case takes


def test_random_cases(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """No crash, no hang, no error but tvmconv's own of one line."""
    seconds, seed = pytestconfig.getoption("--fuzz-seconds"), pytestconfig.getoption("--fuzz-seed")
    end, failures, made, start = time.monotonic() + seconds, [], 0, 0
    while (left := end - time.monotonic()) > 0 and len(failures) < 40:
        cases, found = child(seed, start, left, tmp_path / "notes")
        failures += found
        made += cases
        start += 1_000_000  # a child that died is followed by one of other cases
    texts = [json.dumps(failure["wrong"])[-600:] + "\n" + json.dumps(failure)[:2000] for failure in failures]
    assert not failures, f"{len(failures)} of {made} cases:\n" + "\n".join(texts)
    assert made >= 20, "hardly anything was run"


def child(seed: int, first: int, seconds: float, notes: Path) -> tuple[int, list[dict]]:
    """(cases, failures) of a child process. One that dies or hangs is a failure of the case at work."""
    notes.unlink(missing_ok=True)
    command = [sys.executable, SUPPORT / "fuzzing.py", ",".join(fuzzing.DRAW), seed, first, seconds, notes]
    cache = notes.parent / "cache"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), *sys.path]),
        "TVMCONV_CACHE": str(cache),
    }
    with subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    ) as process:
        started = time.monotonic()
        while process.poll() is None:
            at = notes.stat().st_mtime if notes.exists() else None
            idle = time.time() - at if at else 0
            if idle > HANG or time.monotonic() - started > seconds + 4 * HANG:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            try:
                out, err = process.communicate(timeout=2)
            except subprocess.TimeoutExpired:
                continue
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    cases = sum(sum(line["cases"].values()) for line in found if "cases" in line)
    failures = [line for line in found if "wrong" in line]
    if process.returncode:
        note = json.loads(notes.read_text()) if notes.exists() else {"target": "none", "case": None}
        failures.append({**note, "wrong": f"ended with {process.returncode}: {err[-2000:]}"})
    return cases, failures


def test_reproducers() -> None:
    """All in one child, which says what it runs before it runs it."""
    said = guard.in_child(fuzzing.replay, [str(path) for path in CASES])
    assert said.split() == [str(path) for path in CASES]


def judged(error: str) -> str | None:
    def run(_: object) -> None:
        exec(error, {"tvmconv": tvmconv})

    return fuzzing.judge("descriptor", "x", run)


def test_the_fuzzer_sees_what_it_is_for() -> None:
    """An error of another kind, and one of several lines; what is refused in a line is fine."""
    assert "KeyError: 'x'" in judged("raise KeyError('x')")
    assert "SystemExit" in judged("raise SystemExit(1)")
    assert "not one line" in judged("raise type('Odd', (tvmconv.Error,), {'__str__': lambda _: 'a\\nb'})")
    assert judged("raise tvmconv.SpecError('a')") is None and judged("pass") is None


def test_the_fuzzer_sees_a_child_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuzzing.py").write_text("import os, sys\nopen(sys.argv[5], 'w').write('{}')\nos.abort()\n")
    monkeypatch.setattr(sys.modules[__name__], "SUPPORT", tmp_path)
    cases, (failure,) = child(0, 0, 5.0, tmp_path / "notes")
    assert cases == 0 and failure["wrong"].startswith("ended with -6")
