"""Names of C functions: what C has taken is refused before anything is compiled; all others make headers that
C and C++ compile beside any standard header."""

from __future__ import annotations

import shutil
from pathlib import Path

import libraries
import numpy as np
import pytest
from libraries import run

import tvmconv
from tvmconv.compiler.artifact.library import Library
from tvmconv.formats.manifest import symbol_of

PW = "conv2d:1x3x3x4:o8:k1x1:NHWC:float32"
# Of the C library and its maths, POSIX, macros, types, keywords of C and C++, and what compilers define.
TAKEN = """
    exp erf expf sin nan y1 gamma malloc index div signal printf read bind select time environ NULL EOF
    errno assert SIGINT stdin I complex size_t int32_t FILE off_t linux unix i386 typeof asm restrict
    char8_t constexpr co_await requires std main minor alloca
"""
FREE = """
    conv dw pw layer stem head block conv1 index1 exp_ expand x y w packed n ret self args pointer B0 end
    reduce pool tensor data
"""
HEADERS = {
    "c": "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign "
    "stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar "
    "wchar wctype pthread unistd fcntl sys/socket sys/stat sys/mman netdb poll search semaphore dlfcn",
    "c++": "cmath cstdlib cstring complex algorithm functional iostream thread vector pthread.h unistd.h",
}


@pytest.mark.parametrize("name", TAKEN.split())
def test_names_that_c_has_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmconv.compiler.compile.compile_kernels", lambda *_: pytest.fail("compiled"))
    with pytest.raises(tvmconv.SpecError, match=f"function name: '{name}', expected a C identifier that"):
        tvmconv.compile({name: PW})


def test_nothing_that_a_library_needs_can_be_its_own(plain: Path) -> None:
    kernel = libraries.library().functions["pw"]
    needed = {word.partition("@")[0] for word in run("nm", "-D", "-u", plain).stdout.split()}
    needed = {name for name in needed if name[0].isalpha() and len(name) > 1}  # nm says U and w before
    assert "pthread_create" in needed
    for name in needed:
        with pytest.raises(tvmconv.SpecError, match="expected a C identifier that"):
            Library({name: kernel}, libraries.machine())


@pytest.mark.parametrize("language", HEADERS)
@pytest.mark.parametrize("prefix", ["tvmconv", "mine"])
def test_headers_compile_beside_all_others(language: str, prefix: str, tmp_path: Path) -> None:
    compiler = {"c": "gcc", "c++": "g++"}[language]
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    kernel = libraries.library().functions["pw"]
    names = FREE.split() + (TAKEN.split() if prefix == "mine" else [])
    library = Library(dict.fromkeys(names, kernel), libraries.machine(), prefix=prefix)
    suffix = ".h" if language == "c" else ""
    includes = "".join(f"#include <{name}{suffix}>\n" for name in HEADERS[language].split())
    (tmp_path / "lib.h").write_text(library.header("lib"))
    uses = "".join(f"  bad |= !{symbol_of(name, prefix)}(0, 0, 0);\n" for name in names)
    for order in (includes + '#include "lib.h"\n', '#include "lib.h"\n' + includes, '#include "lib.h"\n'):
        text = f"{order}int use(void) {{\n  int bad = 0;\n{uses}  return bad;\n}}\n"
        (tmp_path / "main.c").write_text(text)
        built = run(compiler, "-x", language, "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE", "-fsyntax-only",
                    "main.c", cwd=tmp_path)  # fmt: skip
        assert built.returncode == 0, built.stderr


def test_a_function_beside_the_one_that_it_calls() -> None:
    """`exp` of a library with a prefix is not the function that its own sigmoid calls."""
    spec = tvmconv.ConvSpec.parse("conv2d:1x3x3x2:o2:k1x1:NHWC:float64:sigmoid")
    x, w = np.ones((1, 3, 3, 2)), np.ones((1, 1, 2, 2))
    y = tvmconv.compile({"exp": spec}, prefix="mine").load()["exp"](x, w)
    np.testing.assert_allclose(y, 1 / (1 + np.exp(-2)), rtol=1e-14)
