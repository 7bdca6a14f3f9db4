"""A schedule as logs, caches and workers remember it: a strategy by name, and its point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

META, TRACE = "meta", "trace"
"""What stands for a strategy where a trace of meta_schedule's own space is a schedule, and its only knob."""


@dataclass(frozen=True)
class Choice:
    """A strategy by name, and its point: all that has to be remembered of a schedule."""

    strategy: str
    point: dict[str, Any]
