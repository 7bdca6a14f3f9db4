#!/usr/bin/env python3
"""Does the first hour of a guide of the book: runs the blocks of its section "The first hour" in a new
folder, as somebody would who reads it, and prints how long each took.

    python scripts/first_hour.py               # which there are
    python scripts/first_hour.py deploy        # tvmconv/docs/deploy.md
    python scripts/first_hour.py edge --folder hour

Blocks of `sh` and `python` are run, up to the first command that fails; a block with a file's name is written
to that file. Blocks of `console`, which change the machine, are left out: `tvmconv` is the one beside this
Python, and a folder that `scripts/debian_root.sh` has made here or in the checkout is linked.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "tvmconv" / "docs"
TITLE = "The first hour"
_ROOT = re.compile(r"^(scripts/debian_root\.sh \S+ (\S+))", re.M)
_BLOCK = re.compile(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", re.M | re.S)
# Searches of seconds, where time is short: the same commands, with another budget.
_SHORTER = (
    (r"--trials \d+", "--trials 2"),
    (r"--minutes [\d.]+", "--minutes 0.05"),
    (r"--rounds \d+", "--rounds 1"),
)


class Block(NamedTuple):
    """Code of a guide. file: the one that it is written to, "" for what is run."""

    language: str
    file: str
    text: str


def blocks(text: str) -> list[Block]:
    """The blocks of code in (a part of) a guide, in order."""
    return [Block(*found) for found in _BLOCK.findall(text)]


def first_hour(guide: str) -> str:
    """That section of a guide; "" where it has none."""
    text = (DOCS / f"{guide}.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {TITLE}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    return found[1] if found else ""


def guides() -> list[str]:
    """The guides that have one."""
    return [path.stem for path in sorted(DOCS.glob("*.md")) if first_hour(path.stem)]


def shorter(text: str) -> str:
    """Commands with the least to search for."""
    for pattern, less in _SHORTER:
        text = re.sub(pattern, less, text)
    return text


def link_roots(guide: str, folder: Path) -> None:
    """Links in ``folder`` to what the hour has `scripts/debian_root.sh` make, where it is not there. Raises
    LookupError where nobody has made it."""
    for command, name in _ROOT.findall(first_hour(guide)):
        if (folder / name).exists():
            continue
        made = next((place / name for place in (Path.cwd(), ROOT) if (place / name).is_dir()), None)
        if made is None:
            raise LookupError(f"{name}: not here, expected what '{command}' makes")
        (folder / name).symlink_to(made)


def run(guide: str, folder: Path, short: bool = False) -> Iterator[str]:
    """Do the first hour in ``folder``; yields what each block printed. Raises CalledProcessError for one that
    failed, LookupError for what it needs first. short: with searches of seconds."""
    (folder / "scripts").symlink_to(ROOT / "scripts")
    link_roots(guide, folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "XDG_DATA_HOME": str(folder / "data")}
    total = 0.0
    for language, file, text in blocks(first_hour(guide)):
        if file:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(text, encoding="utf-8")
        if file or language not in ("sh", "python"):
            continue
        code = shorter(text) if short else text
        shell = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
        print("\n" + "".join(f"| {line}\n" for line in code.splitlines()), end="", flush=True)
        start = time.perf_counter()
        done = subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        took = time.perf_counter() - start
        total += took
        print(f"{done.stdout}{done.stderr}({took:.1f} s)", flush=True)
        done.check_returncode()
        yield done.stdout
    print(f"{guide}: {total:.1f} s of commands")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("guide", nargs="*", help="guides whose first hour to do (default: list them)")
    parser.add_argument("--folder", type=Path, help="a new folder to work in, and keep")
    parser.add_argument("--short", action="store_true", help="searches of seconds, in place of minutes")
    arguments = parser.parse_args()
    if not arguments.guide:
        print("\n".join(guides()))
    for guide in arguments.guide:
        if guide not in guides():
            print(f"first_hour: error: {guide}: expected one of {', '.join(guides())}", file=sys.stderr)
            return 2
        with tempfile.TemporaryDirectory() as temporary:
            folder = arguments.folder / guide if arguments.folder else Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            try:
                for _ in run(guide, folder, arguments.short):
                    pass
            except FileExistsError:
                print(f"first_hour: error: --folder {folder}: was used before", file=sys.stderr)
                return 2
            except LookupError as error:
                print(f"first_hour: error: {guide}: {error.args[0]}", file=sys.stderr)
                return 2
            except subprocess.CalledProcessError as error:
                print(f"first_hour: error: {guide}: exit status {error.returncode}", file=sys.stderr)
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
