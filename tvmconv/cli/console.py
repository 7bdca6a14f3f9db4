"""What the verbs share for printing: tables, JSON, sizes, progress."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvmconv.base.errors import one_line

Progress = Callable[[int, int, str], None]
"""Called with (steps done, steps in all, the current step)."""


def print_json(value: Any) -> None:
    """`value` as JSON on stdout."""
    print(json.dumps(value, indent=2))


def log(message: str) -> None:
    """One line on stderr."""
    print(f"tvmconv: {one_line(message)}", file=sys.stderr, flush=True)


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Warnings look like the rest of stderr."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: log(f"warning: {' '.join(str(message).split())}")
        yield


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log(record.getMessage())


def show_log() -> None:
    """Show on stderr what the package logs about long steps."""
    logger = logging.getLogger("tvmconv")
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        logger.addHandler(_ToStderr())
    logger.setLevel(logging.INFO)


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """`rows` under `columns` on stdout; the columns named in `right` align right.

    On a terminal long cells wrap; elsewhere every row is one line, whole, and nothing is coloured.
    """
    if sys.stdout.isatty():
        _rich_table(columns, rows, right)
        return
    cells = [list(columns), *([one_line(str(cell)) for cell in row] for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    for row in cells:
        line = "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for cell, width, column in zip(row, widths, columns, strict=True)
        )
        print(line.rstrip())


def _rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]], right: Sequence[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(str(cell))) for cell in row))
    Console().print(table)


@contextmanager
def progress(label: str, *, verbose: bool = False) -> Iterator[Progress]:
    """Yield a function that shows progress on stderr: a bar on a terminal, else lines if `verbose`."""
    if not sys.stderr.isatty():
        yield (lambda done, total, text: log(f"{label} {done}/{total} {text}")) if verbose else _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None, text="")
        yield lambda done, total, text: bar.update(task, completed=done, total=total, text=text)


def _silent(done: int, total: int, text: str) -> None:
    pass


def count(number: int, noun: str) -> str:
    """A number of things: "1 function", "2 functions"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def size(count: int) -> str:
    """A readable number of bytes: "512 B", "48.3 kB", "1.2 MB"."""
    if count < 1000:
        return f"{count} B"
    for unit, scale in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if count < 1000 * scale or unit == "GB":
            return f"{count / scale:.1f} {unit}"
    raise AssertionError


def shape(dims: Sequence[int]) -> str:
    """A shape as in descriptors: "1x112x112x32"."""
    return "x".join(str(dim) for dim in dims)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, as sha256sum prints it."""
    import hashlib

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
