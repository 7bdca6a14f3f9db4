"""The number of threads from the environment, checked before native code reads it."""

from __future__ import annotations

import os

from tvmconv.base.errors import Error

MOST_THREADS = 256  # TCV_MAX_THREADS
_VARIABLES = ("TVMCONV_NUM_THREADS", "TVM_NUM_THREADS")  # the first that is set is used


def threads_asked() -> int | None:
    """What the environment says; None if nothing."""
    check_environment()
    name = next(filter(os.environ.get, _VARIABLES), None)
    return None if name is None else int(os.environ[name])


def check_environment() -> None:
    """Raises Error if the variable used is not a plain number of threads."""
    name = next(filter(os.environ.get, _VARIABLES), None)
    if name is None:
        return
    text = os.environ[name]
    digits = text.lstrip("0") if text.isascii() and text.isdigit() else ""
    if not digits or len(digits) > 3 or int(digits) > MOST_THREADS:
        raise Error(f"{name}: {text!r}, expected a whole number from 1 to {MOST_THREADS}")
