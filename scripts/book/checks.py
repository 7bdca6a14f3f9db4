"""What makes the book incomplete: links to nothing, guides that nobody finds, names that nobody explains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pdoc.doc


class _Addresses(HTMLParser):
    """ids: what links may point to. links: where they point. loaded: what the page needs to be shown."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.ids.add(value)
            elif name == "href" and value and tag == "a":
                self.links.append(value)
            elif name in ("src", "href") and value and not value.startswith("data:"):
                self.loaded.append(value)


def broken_links(site: Path) -> Iterator[str]:
    """A line for each link to a page, or a place of one, that is not there, and for what needs a network."""
    found = sorted(site.resolve().rglob("*.html"))
    pages = {path: _Addresses(path.read_text(encoding="utf-8")) for path in found}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in page.loaded:
            if urlsplit(link).netloc:
                yield f"{name}: needs {link}: pages have to do without a network"
        for link in dict.fromkeys([*page.links, *page.loaded]):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: link to {link}: no such page"
            elif parts.fragment and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name}: link to {link}: no such place in the page"


def guides_left_out(docs: Path, parts: Sequence[Any]) -> Iterator[str]:
    """A line for each guide that the index does not link to."""
    linked = {Path(page.address).stem for part in parts for page in part.pages}
    for guide in sorted(docs.glob("*.md")):
        if guide.stem not in linked | {"index"}:
            yield f"{guide.name}: not in index.md"


def is_documented(member: pdoc.doc.Doc) -> bool:
    """Whether it is a member of ours for users: not a foreign base class's, nor a constant of the class."""
    foreign = not member.taken_from[0].startswith("tvmconv")
    constant = isinstance(member, pdoc.doc.Variable) and member.is_classvar and not member.docstring
    return not foreign and not constant and not (member.name.startswith("_") and member.name != "__init__")


def unexplained(modules: Mapping[str, pdoc.doc.Module]) -> Iterator[str]:
    """A line for each public name without a docstring. Fields of a class are explained in its own."""
    for module in modules.values():
        if not module.docstring:
            yield f"{module.modulename}: no docstring"
        for name, member in module.members.items():
            if name.startswith("_") or (isinstance(member, pdoc.doc.Variable) and member.is_typevar):
                continue
            if not member.docstring:
                yield f"{module.modulename}.{name}: no docstring"
            elif isinstance(member, pdoc.doc.Class):
                for field in filter(is_documented, member.members.values()):
                    said = field.docstring or re.search(rf"\b{field.name}\b", member.docstring)
                    if field.name != "__init__" and not said:
                        yield f"{module.modulename}.{name}.{field.name}: explained neither here nor by {name}"
