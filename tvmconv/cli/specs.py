"""Descriptors on the command line and in files: `DESCRIPTOR` or `NAME=DESCRIPTOR`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tvmconv.base.errors import Error, SpecError
from tvmconv.cli.given import expect_descriptor, kind_of_file

if TYPE_CHECKING:
    from tvmconv.specs.kinds import Spec

Named = tuple["str | None", "Spec"]


def looks_like_descriptor(text: str) -> bool:
    """Whether an argument is a descriptor rather than a library. Raises Error for a file of another kind."""
    if kind_of_file(text) in ("model", "list"):
        expect_descriptor(text)
    return ":" in text and not Path(text).exists()


def split_name(text: str) -> tuple[str | None, str]:
    """(name, descriptor) of `NAME=DESCRIPTOR`; the name is None if there is none.

    A descriptor may hold "=" itself (`clip=0,6`), but only after its first ":".
    """
    head, equals, tail = text.partition("=")
    if not equals or ":" in head:
        return None, text
    return head.strip(), tail.strip()


def parse_argument(text: str) -> Named:
    """``parse_one`` of an argument, which may be a file meant for an option. Raises Error."""
    return parse_one(expect_descriptor(text))


def parse_one(text: str) -> Named:
    """(name or None, spec); raises SpecError."""
    from tvmconv.specs.kinds import parse_spec

    name, descriptor = split_name(text)
    if name is not None and not (name.isascii() and name.isidentifier()):
        raise SpecError(f"name {name!r}: expected a C identifier")
    return name, parse_spec(descriptor)


def read_file(path: str) -> list[Named]:
    """The descriptors of a file ("-": stdin): one per line; blank lines and `# comments` are skipped."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SpecError(f"{path}: not a text file; expected one descriptor a line") from None
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        try:
            found.append(parse_one(line))
        except SpecError as error:
            raise SpecError(f"{path}:{number}: {error}") from None
    return found


def collect(descriptors: Sequence[str], files: Sequence[str] = (), names: Sequence[str] = ()) -> list[Named]:
    """Everything requested, in order; `names` names the descriptors given as arguments."""
    if len(names) > len(descriptors):
        raise Error(
            f"--name: given {len(names)} times, expected at most {len(descriptors)}, one a DESCRIPTOR"
        )
    found = [parse_argument(text) for text in descriptors]
    for i, name in enumerate(names):
        if found[i][0] is not None:
            raise Error(f"--name {name}: its descriptor is already named {found[i][0]!r}")
        found[i] = parse_one(f"{name}={descriptors[i]}")
    for path in files:
        found += read_file(path)
    _refuse_twice(name for name, _ in found if name is not None)
    return found


def _refuse_twice(names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Error(f"name {name!r}: given twice; each function needs a name of its own")
        seen.add(name)
