"""What a scheduling rule returns: which weights layout it wants, and how to schedule the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tvm.s_tir import Schedule

from tvmconv.ops.packing import Packing
from tvmconv.ops.winograd import WinogradPacking


@dataclass(frozen=True)
class Plan:
    """A strategy's answer for one problem on one machine. ``point`` holds the numbers that it chose."""

    strategy: str
    packing: Packing | WinogradPacking
    apply: Callable[[Schedule], None]
    point: dict[str, Any] = field(default_factory=dict)
    algorithm: str = "direct"
