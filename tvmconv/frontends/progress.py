"""What is seen of a first call, which compiles for seconds: a line on a terminal or in a notebook, gone when
it is done; elsewhere nothing but a record of the logger "tvmconv", which scripts do not show unless asked."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_log = logging.getLogger("tvmconv")


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Tell that ``what`` is being compiled."""
    stream, start = sys.stderr, time.perf_counter()
    shown = not _log.isEnabledFor(logging.INFO) and stream is not None and _is_watched(stream)
    if shown:
        text = f"tvmconv: compiling {what}, once; later calls find it in the cache"
        stream.write("\r" + text[: shutil.get_terminal_size().columns - 1])
        stream.flush()
    try:
        yield
    finally:
        if shown:
            stream.write("\r\x1b[K")
            stream.flush()
    _log.info("compiled %s in %.1f s", what, time.perf_counter() - start)


def _is_watched(stream: object) -> bool:
    return getattr(stream, "isatty", bool)() or "ipykernel" in sys.modules
