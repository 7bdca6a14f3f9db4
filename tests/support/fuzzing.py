"""A fuzzer: for each target, cases drawn by a seed, and what a case may end in. ``test_fuzz.py`` runs it in a
child process, which a crash ends.

A case is a JSON value. ``DRAW[target](rng)`` makes one, ``RUN[target](case)`` runs it: it returns, or raises
an error of tvmconv's of one line, or what ``judge`` says. Everything else is a failure.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_calls
import fuzz_files

from tvmconv.base.errors import Error

_MEMORY = 12 << 30  # of address space, of which TVM's libraries take some
TARGETS = {
    "descriptor": fuzz_calls,
    "log": fuzz_files,
    "trace": fuzz_files,
    "point": fuzz_files,
    "library": fuzz_files,
    "arrays": fuzz_calls,
    "onnx": fuzz_files,
    "specs": fuzz_calls,
}
DRAW: dict[str, Callable[[random.Random], Any]] = {n: getattr(m, f"draw_{n}") for n, m in TARGETS.items()}
RUN: dict[str, Callable[[Any], None]] = {n: getattr(m, f"run_{n}") for n, m in TARGETS.items()}
SHARE = {"specs": 4.0, "point": 2.0}  # of the time; of others 1


def judge(target: str, case: Any, run: Callable[[Any], None] | None = None) -> str | None:
    """Run a case; what is wrong with how it ended, as a traceback, or None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (run or RUN[target])(case)
    except Error as error:
        text = str(error)
        if "\n" in text or not text or "\x1b" in text:
            return f"an error that is not one line: {text!r}"
    except TypeError as error:
        if target != "arrays" or "tvmconv" not in str(error):
            return traceback.format_exc()
    except (Exception, SystemExit):
        return traceback.format_exc()
    return None


def fuzz(targets: list[str], seed: int, first: int, seconds: float, notes: str) -> None:
    """Run cases of the targets in turns, from number ``first`` on, for ``seconds``. ``notes``, a file, says
    what is at work; failures are printed, one a line of JSON, and at last how many cases there were."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    spent = dict.fromkeys(targets, 0.0)
    number = dict.fromkeys(targets, first)
    until = time.monotonic() + seconds
    for target in targets:  # what a target prepares once is not its cases' time
        DRAW[target](random.Random(0))
    seen: set[str] = set()
    while time.monotonic() < until:
        target = min(targets, key=lambda t: spent[t] / SHARE.get(t, 1.0))
        start = time.monotonic()
        case = DRAW[target](random.Random(f"{seed}:{target}:{number[target]}"))
        note = {"target": target, "case": case}
        Path(notes).write_text(json.dumps(note))
        wrong = judge(target, case)
        kind = "" if wrong is None else target + wrong.strip().splitlines()[-1][:60]
        if wrong is not None and kind not in seen:
            seen.add(kind)
            print(json.dumps({**note, "wrong": wrong}), flush=True)
        number[target] += 1
        spent[target] += time.monotonic() - start
    print(json.dumps({"cases": {target: number[target] - first for target in targets}}), flush=True)


def replay(paths: list[str]) -> None:
    """Run the cases of files, one JSON object a file with ``target`` and ``case``; says which it runs."""
    for path in paths:
        print(path, flush=True)
        facts = json.loads(Path(path).read_text())
        wrong = judge(facts["target"], facts["case"])
        assert wrong is None, f"{path}: {wrong}"


if __name__ == "__main__":
    os.environ.setdefault("TVMCONV_CACHE", tempfile.mkdtemp(prefix="tvmconv-fuzz-"))
    fuzz(sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), sys.argv[5])
