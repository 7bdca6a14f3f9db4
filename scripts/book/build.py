"""The book as a site of plain files that needs no network: guides, API and command line, in one folder.

The guides are the pages that tvmconv/docs/index.md links to, in its sections; the API is what the packages'
`__all__` name. Ends with exit status 1, and a line each, for a guide that the index does not have, a link to
nothing, and a public name that no docstring explains.
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import re
import shutil
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import checks
import pdoc.doc
import pdoc.render
import pygments
import pygments.formatters
import pygments.lexers
from pdoc.render_helpers import to_html

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "tvmconv" / "docs"
API = ("tvmconv", "tvmconv.network", "tvmconv.onnx", "tvmconv.torch", "tvmconv.show",
       "tvmconv.specs.arithmetic", "tvmconv.frontends.verify")  # fmt: skip
_FORMATTER = pygments.formatters.HtmlFormatter(cssclass="pdoc-code codehilite")
_FENCE = re.compile(r"^```(\w+) (\S+)$", re.M)


@dataclass(frozen=True)
class Page:
    """title: in lists of pages. address: of its file in the site."""

    title: str
    address: str


@dataclass(frozen=True)
class Part:
    """A section of the book, and its pages."""

    title: str
    pages: list[Page]


def parts(docs: Path) -> list[Part]:
    """The sections of the index, with the guides that each links to."""
    text = (docs / "index.md").read_text(encoding="utf-8")
    found = []
    for title, body in re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", text, re.M | re.S):
        links = re.findall(r"\[([^\]]+)\]\((\w+)\.md\)", body)
        found.append(Part(title, [Page(name, f"{file}.html") for name, file in links]))
    return found


def api_modules() -> dict[str, pdoc.doc.Module]:
    """The documented modules, by name, with all their names loaded."""
    found = {}
    for name in API:
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", ()):
            getattr(module, public)
        found[name] = pdoc.doc.Module(module)
    return found


def shown(cls: pdoc.doc.Class) -> list[Any]:
    """The members of a class that its page explains: those of ours, also from base classes without a page."""
    return [member for member in cls.members.values() if checks.is_documented(member)]


class Site:
    """The pages of the guides in ``docs``, of the API and of the command line, to write to ``out``."""

    def __init__(self, docs: Path, out: Path) -> None:
        self.docs, self.out = docs, out
        self.modules = api_modules()
        self.home = {f"{module.obj.__name__}.{name}": f"api/{module.modulename.replace('.', '/')}.html#{name}"
                     for module in self.modules.values() for name in module.members
                     if not name.startswith("_")}  # fmt: skip
        reference = [Page(name, f"api/{name.replace('.', '/')}.html") for name in API]
        self.parts = [*parts(docs), Part("API", [*reference, Page("Command line", "cli.html")])]
        pdoc.render.configure(docformat="markdown", show_source=False, search=True,
                              template_directory=Path(__file__).parent)  # fmt: skip
        pdoc.render.env.globals |= {"book": self, "shown": shown}
        self._public_names_in_signatures()

    def _public_names_in_signatures(self) -> None:
        """tvmconv.specs.conv.ConvSpec is shown as tvmconv.ConvSpec, by which it is imported."""
        public = {f"{member.obj.__module__}.{member.obj.__qualname__}": f"{module.modulename}.{name}"
                  for module in reversed(self.modules.values()) for name, member in module.members.items()
                  if inspect.isclass(getattr(member, "obj", None))}  # fmt: skip
        pattern = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in public))
        pdoc.doc.formatannotation = lambda given: pattern.sub(  # type: ignore[attr-defined]
            lambda match: public[match[0]], inspect.formatannotation(given)
        )

    def _write(self, address: str, text: str) -> None:
        (self.out / address).parent.mkdir(parents=True, exist_ok=True)
        (self.out / address).write_text(text, encoding="utf-8")

    def _page(self, page: Page, text: str, toc: str = "") -> None:
        template = pdoc.render.env.get_template("guide.html.jinja2")
        root = "../" * page.address.count("/")
        self._write(page.address, template.render(page=page, text=text, toc=toc, root=root))

    def _source(self, path: Path) -> str:
        """The address of a page that shows a file of the repository."""
        name = path.relative_to(ROOT).as_posix()
        address = f"files/{name}.html"
        if not (self.out / address).exists():
            lexer = pygments.lexers.get_lexer_for_filename(path.name, stripnl=False)
            code = pygments.highlight(path.read_text(encoding="utf-8"), lexer, _FORMATTER)
            self._page(Page(name, address), f"<h1>{html.escape(name)}</h1>{code}")
        return address

    def _link(self, match: re.Match[str]) -> str:
        """A guide's link, to where it leads in the site."""
        target, _, anchor = match[1].partition("#")
        path = (self.docs / target).resolve()
        if not target or ":" in match[1] or not path.exists():
            return match[0]
        if path.parent == self.docs and path.suffix == ".md":
            return f'href="{path.stem}.html{"#" + anchor if anchor else ""}"'
        if path.is_dir() or not path.is_relative_to(ROOT):
            return match[0]
        return f'href="{self._source(path)}"'

    def _name(self, match: re.Match[str]) -> str:
        """`tvmconv.load(...)` in a guide, as a link to what the API says of it."""
        address = self.home.get(match[1])
        return f'<a href="{address}">{match[0]}</a>' if address else match[0]

    def guide(self, page: Page) -> None:
        """Write the page of a guide."""
        source = (self.docs / page.address).with_suffix(".md").read_text(encoding="utf-8")
        captioned = _FENCE.sub(r"`\2`:\n\n```\1", source)
        text = to_html(captioned)
        toc = text.toc_html if source.count("\n## ") > 2 else ""
        body = re.sub(r'href="([^"]+)"', self._link, text)
        body = re.sub(r"<code>((?:tvmconv\.)[\w.]+)(?:\([^<]*\))?</code>", self._name, body)
        self._page(page, body, toc)

    def command_line(self) -> None:
        """Write the page of the verbs' --help."""
        import typer.main

        from tvmconv.cli.app import build

        group = typer.main.get_command(build())
        told = []

        def add(command: Any, path: str) -> None:
            context = command.make_context(path, [], resilient_parsing=True)
            context.max_content_width = context.terminal_width = 100
            said = re.sub(r"\x1b\[[0-9;]*m|\x08", "", command.get_help(context))
            told.append((path.replace(" ", "-"), path, said))
            for name, inner in getattr(command, "commands", {}).items():
                add(inner, f"{path} {name}")

        add(group, "tvmconv")
        verbs = (f'<h2 id="{name}">{path}</h2><pre>{html.escape(said)}</pre>' for name, path, said in told)
        toc = "".join(f'<li><a href="#{name}">{path}</a></li>' for name, path, _ in told)
        page = Page("Command line", "cli.html")
        self._page(page, f"<h1>{page.title}</h1>{''.join(verbs)}", f"<ul>{toc}</ul>")

    def build(self) -> None:
        """Write all pages."""
        self.guide(Page("tvmconv", "index.html"))
        for part in self.parts[:-1]:
            for page in part.pages:
                self.guide(page)
        pictures = self.docs / "pictures"
        if pictures.is_dir():
            shutil.copytree(pictures, self.out / "pictures")
        self.command_line()
        for name, module in self.modules.items():
            self._write(f"api/{name.replace('.', '/')}.html", pdoc.render.html_module(module, self.modules))
        self._write("api/search.js", pdoc.render.search_index(self.modules))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build-docs"), help="folder to write (build-docs)")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the guides (tvmconv/docs)")
    arguments = parser.parse_args()
    out = arguments.out
    if out.exists() and not (out / "index.html").is_file() and any(out.iterdir()):
        print(f"build_docs: error: --out {out}: expected a new folder, or the site's own", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    warnings.filterwarnings("ignore", module="pdoc")  # of annotations whose names only type checkers import
    site = Site(arguments.docs.resolve(), out)
    site.build()
    wrong = [*checks.guides_left_out(arguments.docs, site.parts), *checks.broken_links(out),
             *checks.unexplained(site.modules)]  # fmt: skip
    for line in wrong:
        print(f"build_docs: error: {line}", file=sys.stderr)
    if not wrong:
        print(f"{out / 'index.html'}: {len([*out.rglob('*.html')])} pages")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
