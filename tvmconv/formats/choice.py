"""A schedule as logs, caches and workers store it: a strategy by name, and its point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

META, TRACE = "meta", "trace"
"""The strategy name, and only knob, of a schedule that is a trace of meta_schedule's own space."""


@dataclass(frozen=True)
class Choice:
    """A strategy by name, and its point: all that has to be stored of a schedule."""

    strategy: str
    point: dict[str, Any]
