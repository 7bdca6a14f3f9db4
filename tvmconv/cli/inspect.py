"""`tvmconv inspect`: what a library holds, without loading it."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("inspect", help="Show what a library holds.")(inspect_verb)


def inspect_verb() -> None:
    """To be written when the manifest reader is there."""
