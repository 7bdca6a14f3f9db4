"""How slow this machine is just now, for tests that count seconds of CPU: a core that others share, or one
that is throttled, takes several times as many for the same work."""

from __future__ import annotations

import time

_USUAL = 0.08  # seconds for the loop below, of a server core of recent years


def slowness() -> float:
    """1 or more: how many times as long as usual plain work takes, as measured now."""
    found = []
    for _ in range(3):
        start, total = time.process_time(), 0
        for i in range(2_000_000):
            total += i
        found.append(time.process_time() - start)
    return max(1.0, sorted(found)[1] / _USUAL)
