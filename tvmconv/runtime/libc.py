"""The C library of this process, and whether a library was linked for it."""

from __future__ import annotations

import os


def host_libc() -> str | None:
    """ "glibc 2.36", or None for another one."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or None
    except (AttributeError, ValueError, OSError):
        return None


def why_not(wanted: str | None) -> str | None:
    """Why a library whose manifest has ``wanted`` as "libc" cannot be loaded here; None if it can, or nothing
    is known about it."""
    if not wanted:
        return None
    name, _, oldest = wanted.partition(" ")
    here = host_libc()
    if name == "glibc":
        if here is None:
            return f"it is linked for {wanted} or newer, this system has another C library"
        if _numbers(here.partition(" ")[2]) < _numbers(oldest):
            return f"it is linked for {wanted} or newer, this system has {here}"
    elif here is not None:
        return f"it is linked for {wanted}, this system has {here}"
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
