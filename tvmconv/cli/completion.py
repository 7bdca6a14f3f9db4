"""What a shell offers for a word that is being typed; on any trouble nothing, since a prompt is no place for
errors. Where nothing fits, shells offer files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Complete = Callable[[Any, str], list[str]]


def targets(ctx: Any, incomplete: str) -> list[str]:
    """Names of targets; after a comma the next of several."""
    from tvmconv.schedules.machines import names

    return parts(*names())(ctx, incomplete)


def functions(ctx: Any, incomplete: str) -> list[str]:
    """Names of the functions of the library that the line has before them, but those it has already."""
    from tvmconv.base.errors import Error
    from tvmconv.formats.manifest import read

    library, *given = _arguments(ctx)
    try:
        found = read(Path(library))["functions"]
    except (Error, OSError):
        return []
    return [function["name"] for function in found if function["name"] not in given]


def words(*given: str) -> Complete:
    """One of these."""
    return lambda ctx, incomplete: list(given)


def parts(*given: str) -> Complete:
    """Several of these, joined by commas."""

    def complete(ctx: Any, incomplete: str) -> list[str]:
        before, comma, _ = incomplete.rpartition(",")
        taken = before.split(",")
        return [f"{before}{comma}{word}" for word in given if word not in taken]

    return complete


def _arguments(ctx: Any) -> list[str]:
    """The arguments so far, in order."""
    found: list[str] = []
    for parameter in ctx.command.params:
        value = ctx.params.get(parameter.name)
        if parameter.param_type_name == "argument" and value is not None:
            found += map(str, value) if isinstance(value, (list, tuple)) else [str(value)]
    return found or [""]
