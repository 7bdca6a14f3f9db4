"""A module for ``tvmconv.tuning.measuring.forks`` to run: it answers, dies, or is late, as it is told."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from tvmconv.tuning.measuring import forks


def serve() -> None:
    forks.serve(_answer)


def _answer(message: Any) -> Any:
    if message == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if message == "raise":
        raise ValueError(message)
    if message == "sleep":
        time.sleep(60)
    return [message, os.getpid()]
