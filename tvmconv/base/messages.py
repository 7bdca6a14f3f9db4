"""Pieces of messages: bad values, names that were probably meant, counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tvmconv.base.errors import SpecError


def shown(value: Any) -> str:
    """``repr`` of a bad value, on one line and not too long for a message."""
    try:
        text = " ".join(repr(value).split())
    except ValueError:  # Python refuses to print integers of many thousand digits
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."


def near(value: Any, names: Iterable[str], *, most: int = 2, cutoff: float = 0.6) -> list[str]:
    """Those of ``names`` that ``value`` may be a typo for, nearest first, ignoring case."""
    import difflib  # only when something went wrong: importing this module stays cheap

    folded = {name.lower(): name for name in names}  # "nhwc" is near "NHWC"
    return [folded[name] for name in difflib.get_close_matches(str(value).lower(), folded, most, cutoff)]


def hint(found: Iterable[str]) -> str:
    """The end of a sentence that suggests names; nothing if there are none."""
    text = " or ".join(found)
    return f" (did you mean {text}?)" if text else ""


def unknown(argument: str, value: Any, names: Iterable[str]) -> SpecError:
    """The error for a name that is not one of ``names``; near ones are suggested."""
    names = tuple(names)
    found = near(value, names) if isinstance(value, str) else ()
    return SpecError(f"{argument}: {shown(value)}, expected one of {', '.join(names)}{hint(found)}")


def readable(count: int) -> str:
    """A readable count: 288, 9.41 k, 118 M."""
    for unit, scale in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
        if count < 999.5 * scale or unit == "T":
            return str(count) if count < 1000 else f"{count / scale:.3g} {unit}"
    raise AssertionError
