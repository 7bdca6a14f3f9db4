"""Options that several verbs have, each with one name, form and help."""

from __future__ import annotations

from typing import Annotated

import typer

from tvmconv.base.errors import Error

Descriptors = Annotated[
    list[str] | None,
    typer.Argument(metavar="DESCRIPTOR", help="DESCRIPTOR or NAME=DESCRIPTOR, several.", show_default=False),
]
Files = Annotated[
    list[str] | None,
    typer.Option("--file", "-f", metavar="FILE", help="Read descriptors from a file ('-': stdin).",
                 show_default=False),
]  # fmt: skip
Target = Annotated[
    str,
    typer.Option(
        "--target", "-t", metavar="TARGET", help="One of 'tvmconv targets', or several, joined by commas."
    ),
]
ReadLogs = Annotated[
    list[str] | None,
    typer.Option("--log", metavar="DIR", show_default=False,
                 help="Folder of tuning logs to compile by, several in order; 'user' and 'shipped' stand for "
                      "your own and tvmconv's (default: user, shipped)."),
]  # fmt: skip
NoUserLogs = Annotated[
    bool, typer.Option("--no-user-logs", help="As --log shipped: the result does not depend on who compiles.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def logs_of(log: list[str] | None, no_user_logs: bool) -> list[str] | None:
    """What ``tuning_logs`` is of the two options; None for the default."""
    if no_user_logs and "user" in (log or ()):
        raise Error("--no-user-logs: expected no --log user beside it")
    return log or (["shipped"] if no_user_logs else None)
