"""The part of this package that goes with libraries to a machine that only runs them: no compiler, only
numpy."""

from __future__ import annotations

import shutil
from pathlib import Path

from tvmconv.base.version import SOURCES

_ROOMS = ("base", "specs", "formats", "runtime", "frontends")
_FILES = ("__init__.py", "tuning/__init__.py", "tuning/measuring/__init__.py",
          "tuning/measuring/gpu_clock.py", "tuning/measuring/gpu_round.py")  # fmt: skip


def carry(place: Path) -> None:
    """Copy the runtime, the check of a library and the measuring of candidates to ``place / "tvmconv"``."""
    package = place / "tvmconv"
    for room in _ROOMS:
        shutil.copytree(SOURCES / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
    for file in _FILES:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(SOURCES / file, package / file)
