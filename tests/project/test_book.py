"""The book builds as a site, with every public name explained and every link leading somewhere; what is wrong
with another is said."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from places import DOCS, SCRIPTS

BUILD = SCRIPTS / "build_docs.sh"


def _build(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPTS / "book" / "build.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_site(tmp_path: Path) -> None:
    pytest.importorskip("pdoc")
    done = _build("--out", tmp_path / "site")
    assert done.returncode == 0 and not done.stderr, done.stderr
    site = tmp_path / "site"
    assert {path.stem for path in site.glob("*.html")} == {path.stem for path in DOCS.glob("*.md")} | {"cli"}
    assert 'id="ConvSpec.output_shape"' in (site / "api" / "tvmconv.html").read_text(encoding="utf-8")
    assert 'id="tvmconv-logs-merge"' in (site / "cli.html").read_text(encoding="utf-8")
    # A name in a guide leads to what the API says of it; a file of the repository to the file.
    example = 'href="files/scripts/examples/edge_example.c.html"'
    assert 'href="api/tvmconv.html#set_num_threads"' in (site / "onnx.html").read_text(encoding="utf-8")
    assert example in (site / "edge.html").read_text(encoding="utf-8")


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("pdoc")
    monkeypatch.syspath_prepend(str(SCRIPTS / "book"))
    return importlib.import_module("checks")


def test_broken_links_are_found(checks: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(
        '<h2 id="here"></h2><a href="api/a.html#there"></a><a href="#here"></a><a href="https://example.org"></a>'
        '<a href="nothing.html"></a><a href="#nowhere"></a><img src="https://example.org/c.png">'
    )
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / "a.html").write_text('<p id="there"></p><a href="../index.html#elsewhere"></a>')
    assert [*checks.broken_links(tmp_path)] == [
        "api/a.html: link to ../index.html#elsewhere: no such place in the page",
        "index.html: needs https://example.org/c.png: pages have to do without a network",
        "index.html: link to nothing.html: no such page",
        "index.html: link to #nowhere: no such place in the page",
    ]


def test_guides_left_out_are_found(checks: ModuleType, tmp_path: Path) -> None:
    for name in ("index", "lost"):
        (tmp_path / f"{name}.md").write_text(f"# {name}\n")
    assert [*checks.guides_left_out(tmp_path, [])] == ["lost.md: not in index.md"]


def test_names_without_docstrings_are_found(
    checks: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pdoc.doc

    (tmp_path / "tvmconv_bare.py").write_text(
        "class Size:\n"
        '    """rows: from top to bottom."""\n'
        "    rows: int\n"
        "    columns: int\n"
        "def area(size): return size.rows * size.columns\n"
        "def _hidden(): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    bare = importlib.import_module("tvmconv_bare")
    assert [*checks.unexplained({"tvmconv_bare": pdoc.doc.Module(bare)})] == [
        "tvmconv_bare: no docstring",
        "tvmconv_bare.Size.columns: explained neither here nor by Size",
        "tvmconv_bare.area: no docstring",
    ]


def test_the_script_says_what_it_needs(tmp_path: Path) -> None:
    empty = tmp_path / "python3"
    empty.write_text('#!/bin/sh\n[ "$1" = -c ] && case "$2" in *pdoc*) exit 1;; esac\nexit 0\n')
    empty.chmod(0o755)
    done = subprocess.run([BUILD], env={"PYTHON": str(empty), "PATH": "/usr/bin:/bin"}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 1 and "pip install '.[docs]'" in done.stderr
