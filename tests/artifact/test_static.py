"""Static libraries and single objects: two of them, of the same kernels, in one C program."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import libraries
import pytest
from libraries import run

import tvmconv

PROGRAM = r"""
#include "one.h"
#include "two.h"
#include <stdio.h>
#include <string.h>

static float x[ONE_A_X_ELEMS], w[ONE_A_W_ELEMS], bias[ONE_A_BIAS_ELEMS], y[ONE_A_Y_ELEMS], z[TWO_A_Y_ELEMS];
static _Alignas(64) char packed[ONE_A_PACKED_BYTES], other[TWO_A_PACKED_BYTES];

int main(void) {
  for (int i = 0; i < ONE_A_X_ELEMS; ++i) x[i] = (float)(i % 7);
  for (int i = 0; i < ONE_A_W_ELEMS; ++i) w[i] = (float)(i % 5);
  if (one_a_prepack(w, bias, packed) || one_a(x, packed, y)) return 1;
  if (two_a_prepack(w, bias, other) || two_a(x, other, z)) return 2;
  if (memcmp(y, z, sizeof y) || y[ONE_A_Y_ELEMS / 2] == 0) return 3;
  if (one_a(NULL, packed, y) != TVMCONV_ERR_NULL || !strstr(one_last_error(), "one_a: x is NULL")) return 4;
  if (strstr(two_last_error(), "x is NULL")) return 5;
  printf("%s %g\n", one_variant(), y[0] + y[1]);
  return 0;
}
"""


def compiler(cc: str | None) -> list[str]:
    if cc is None and not shutil.which("cc"):
        pytest.skip("no cc")
    return shlex.split(cc) if cc else ["cc"]


@pytest.mark.parametrize("cc", libraries.compilers())
@pytest.mark.parametrize("suffix", [".a", ".o"])
def test_two_libraries_of_the_same_kernel(cc: str | None, suffix: str, tmp_path: Path) -> None:
    kernel = libraries.library().functions["large"]
    for prefix in ("one", "two"):
        library = libraries.Library({"a": kernel}, libraries.machine(), prefix=prefix, cc=cc)
        library.export(tmp_path / f"{prefix}{suffix}")
    (tmp_path / "main.c").write_text(PROGRAM)
    inputs = ["main.c", f"one{suffix}", f"two{suffix}", "-pthread", "-lm", "-o", "main"]
    built = run(compiler(cc), "-std=c11", "-Wall", "-Wextra", "-Werror", inputs, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "main")
    assert done.returncode == 0 and done.stdout.startswith(libraries.machine().name), done
    # The file says what it is, and is not mistaken for one that can be loaded.
    assert tvmconv.formats.manifest.read(tmp_path / f"one{suffix}")["functions"][0]["name"] == "a"
    with pytest.raises(tvmconv.ArtifactError, match="to link into a program"):
        tvmconv.load(tmp_path / f"one{suffix}")


def test_equal_prefixes_and_names_are_errors_that_say_so(tmp_path: Path) -> None:
    kernel = libraries.library().functions["pw"]
    for file, name, prefix in (("one", "a", "p"), ("two", "b", "p"), ("three", "p_a", "tvmconv")):
        header = libraries.Library({name: kernel}, libraries.machine(), prefix=prefix).header(file)
        (tmp_path / f"{file}.h").write_text(header)
    for other, said in (("two", "libraries with the prefix p"), ("three", "libraries with a function p_a")):
        text = f'#include "one.h"\n#include "{other}.h"\n#include "one.h"\n'
        (tmp_path / "main.c").write_text(text)
        done = run(compiler(None), "-fsyntax-only", "main.c", cwd=tmp_path)
        assert done.returncode != 0 and said in done.stderr
