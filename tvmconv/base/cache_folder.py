"""The cache's folder on disk. Entries appear by rename, so processes may share it. ``TVMCONV_CACHE`` names
another folder."""

from __future__ import annotations

import atexit
import contextlib
import os
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

from tvmconv.base import scratch, whole_files


@lru_cache(maxsize=1)
def folder() -> Path:
    """The cache folder; a temporary one for this process and its workers, with a warning, where it cannot be
    written. Raises Error where there is no temporary one either."""
    named = os.environ.get("TVMCONV_CACHE") or os.environ.get("XDG_CACHE_HOME")
    path = Path(named or "~/.cache")
    try:
        path = path if os.environ.get("TVMCONV_CACHE") else path.expanduser() / "tvmconv"
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            return path
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: no home; ValueError: a NUL
        why = getattr(error, "strerror", None) or error
    warnings.warn(f"the cache folder {path} cannot be written ({why}); "
                  "this process compiles into a temporary folder", RuntimeWarning, stacklevel=2)  # fmt: skip
    held = contextlib.ExitStack()
    path, owner = held.enter_context(scratch.folder()), os.getpid()
    atexit.register(lambda: held.close() if os.getpid() == owner else None)  # not in a forked child
    return path


def write(path: Path, data: bytes) -> bool:
    """Put an entry in place, whole or not at all; False, with a warning, if the disk does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # another process may have emptied the cache
        whole_files.write({path: (data, 0o600)})
        return True
    except OSError as error:
        warnings.warn(f"the cache entry {path} cannot be written ({error.strerror or error})", RuntimeWarning,
                      stacklevel=2)
        return False
