"""`tvmconv cmake-dir`: where CMake finds this package."""

from __future__ import annotations

from pathlib import Path

import typer

HELP = """Print the folder of the CMake package, for find_package(tvmconv).

\b
Examples:
  cmake -S . -B build -Dtvmconv_DIR=$(tvmconv cmake-dir)

\b
In CMakeLists.txt:
  find_package(tvmconv REQUIRED)
  tvmconv_add_library(model ONNX model.onnx WHOLE TARGETS cortex-a72 cortex-a53)
  target_link_libraries(app PRIVATE model)

app.c then includes model.h. The library is compiled when it is built, and again when the model, its external
weights or a tuning log has changed; SHAPES, DESCRIPTORS, BAKE_WEIGHTS, STATIC, PREFIX, LOGS and OPTIONS are
explained at the top of the file there.
"""


def register(app: typer.Typer) -> None:
    """Add the verb to `app`."""
    app.command("cmake-dir", help=HELP, short_help="Where CMake finds this package.")(cmake_dir)


def cmake_dir() -> None:
    """See HELP."""
    print(Path(__file__).parent / "cmake")
