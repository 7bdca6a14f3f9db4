"""C and C++ programs that include a library's header and link with it."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import libraries
import numpy as np
import pytest
from libraries import Exported, run

import tvmconv
from tvmconv.compiler.artifact import header
from tvmconv.compiler.artifact.header import CODES

PROGRAM = r"""
#include "conv.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static float x[DW_X_ELEMS], w[DW_W_ELEMS], bias[DW_BIAS_ELEMS], expected[DW_Y_ELEMS], y[DW_Y_ELEMS + 1];

static int expect(int want, int code, const char *text) {
  if (code == want && (code == TVMCONV_OK || strstr(tvmconv_last_error(), text))) return 0;
  printf("code %d, expected %d: %s\n", code, want, tvmconv_last_error());
  return 1;
}

static void take(FILE *file, float *to, size_t n) {
  if (fread(to, sizeof *to, n, file) != n) exit(3);
}

int main(int argc, char **argv) {
  int wrong = 0;
  FILE *file = fopen(argv[argc - 1], "rb");
  if (!file) return 2;
  take(file, x, DW_X_ELEMS), take(file, w, DW_W_ELEMS), take(file, bias, DW_BIAS_ELEMS);
  take(file, expected, DW_Y_ELEMS);
  if (tvmconv_abi_version() != TVMCONV_ABI || dw_packed_bytes() != DW_PACKED_BYTES) return 4;
  void *packed = NULL;
  if (posix_memalign(&packed, 64, dw_packed_bytes())) return 5;
  wrong += expect(TVMCONV_OK, dw_prepack(w, bias, packed), "");
  wrong += expect(TVMCONV_OK, dw(x, packed, y), "");
  for (int i = 0; i < DW_Y_ELEMS; ++i)
    if (!(fabsf(y[i] - expected[i]) < 1e-4f)) return 6;
  wrong += expect(TVMCONV_ERR_NULL, dw(NULL, packed, y), "x is NULL");
  wrong += expect(TVMCONV_ERR_NULL, dw_prepack(w, NULL, packed), "bias is NULL");
  wrong += expect(TVMCONV_ERR_ALIGN, dw(x, packed, (float *)((char *)y + 1)), "y is at");
  wrong += expect(TVMCONV_ERR_ALIGN, dw(x, (char *)packed + 4, y), "packed is at");
  wrong += expect(TVMCONV_ERR_OVERLAP, dw(x, packed, x + 8), "y overlaps x");
  tvmconv_set_num_threads(1);
  wrong += expect(TVMCONV_OK, dw(x, packed, y), "");
  tvmconv_set_num_threads(4);
  wrong += expect(TVMCONV_OK, dw(x, packed, y + 1), "");
  if (memcmp(x, x, sizeof x) || memcmp(y + 8, y + 8, 4)) return 7;
  for (int i = 0; i < DW_Y_ELEMS; ++i)
    if (!(fabsf(y[i + 1] - expected[i]) < 1e-4f)) return 8;
  wrong += expect(TVMCONV_OK, none(x, packed, NULL), "");
  free(packed);
  return wrong;
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_c_program(exported: Exported, language: str, tmp_path: Path) -> None:
    path, cc = exported
    x, w, bias, expected = libraries.case("dw")
    data = b"".join(np.ascontiguousarray(a, np.float32).tobytes() for a in (x, w, bias, expected))
    (tmp_path / "data").write_bytes(data)
    source = tmp_path / ("main.c" if language == "c" else "main.cc")
    source.write_text(PROGRAM)
    driver = "cc" if language == "c" else "c++"
    compiler = [driver] if cc is None else [*shlex.split(cc)[:-1], driver]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no {compiler[0]}")
    standard = ["-std=c99", "-D_POSIX_C_SOURCE=200809L"] if language == "c" else ["-std=c++11"]
    built = run(
        compiler, standard, "-Wall", "-Wextra", "-Werror", "-I", path.parent, source, path, "-lm",
        f"-Wl,-rpath,{path.parent}", "-o", tmp_path / "main",
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    done = run(tmp_path / "main", tmp_path / "data")
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)


def test_two_libraries_in_one_program(tmp_path: Path) -> None:
    if not shutil.which("cc"):
        pytest.skip("no cc")
    one = libraries.variant(prefix="one", names=["pw"]).export(tmp_path / "one.so")
    two = libraries.variant(prefix="two", names=["pw"]).export(tmp_path / "two.so")
    (tmp_path / "main.c").write_text(
        '#include "one.h"\n#include "two.h"\n'
        "int main(void) {\n"
        "  return one_abi_version() != two_abi_version() || !one_pw(0, 0, 0) || !two_pw(0, 0, 0);\n"
        "}\n"
    )
    for path, prefix in ((one, "one"), (two, "two")):
        listed = run("nm", "-D", "--defined-only", path).stdout.split()[2::3]
        assert all(name.startswith((f"{prefix}_", "__", "tcv_")) for name in listed), listed
        assert list(tvmconv.load(path)) == ["pw"]  # in Python it keeps its name
    path = f"-Wl,-rpath,{tmp_path}"
    built = run("cc", "-Wall", "-Werror", "main.c", one, two, path, "-o", "main", cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    assert run(tmp_path / "main").returncode == 0


def test_codes_agree_with_the_support_text() -> None:
    text = (Path(header.__file__).parent / "errors.c").read_text()
    codes: dict[str, int] = {}
    for names in re.findall(r"enum \{ (TCV_[^}]*) \}", text):
        code = -1
        for name, _, value in (word.partition(" = ") for word in names.split(", ")):
            code = int(value) if value else code + 1
            codes[name] = code
    assert codes == {f"TCV_{name}": code for name, (code, _) in CODES.items()}
