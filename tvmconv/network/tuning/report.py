"""What tuning a network tells: while it runs, and at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvmconv.network.tuning.playing import Duel


@dataclass(frozen=True)
class Change:
    """A layer that runs by another schedule: how many nodes it is of, and seconds a call in place, afterwards
    by what it saved in turns with what it was."""

    descriptor: str
    count: int
    strategy: str
    before: float
    after: float


@dataclass(frozen=True)
class Report:
    """predicted: seconds of all steps in place, before and after; whole: of the network's last duel between
    what it was and what it is. changes: what was accepted. trials: in the logs, of all layers."""

    predicted: tuple[float, float]
    whole: Duel
    changes: tuple[Change, ...]
    trials: int


@dataclass(frozen=True)
class NetworkStatus:
    """What progress shows: what is done now, trials of this run, how many it means to make, and seconds that
    are left (None before that can be said)."""

    text: str
    done: int
    total: int | None
    left: float | None


Watch = Callable[[NetworkStatus], None]
