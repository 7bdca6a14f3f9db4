"""Arrays from files and numbers on the command line: a .npy file is checked before its data are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvmconv.base.dtypes import BFLOAT16, numpy_dtype
from tvmconv.base.errors import SpecError
from tvmconv.cli import console
from tvmconv.runtime.quantisation import is_quantisation


def named(texts: Sequence[str], first: str, known: Sequence[str], option: str) -> dict[str, str]:
    """The values of ``NAME=VALUE`` by name; VALUE alone is that of ``first``. Raises SpecError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or Path(text).exists():
            name, value = first, text
        if name not in known:
            raise SpecError(f"{option} {text}: no argument {name!r}, expected one of {', '.join(known)}")
        if name in found:
            raise SpecError(f"{option} {text}: {name!r} is given twice")
        found[name] = value
    return found


def of_model(texts: Sequence[str], shapes: Mapping[str, Sequence[int]], model: Any) -> dict[str, np.ndarray]:
    """The arrays of ``NAME=FILE``, or of one FILE for a model with one input. Raises SpecError."""
    from tvmconv.onnx.reading.session import element_type

    names = list(shapes)
    for text in texts:
        if len(names) != 1 and ("=" not in text or Path(text).exists()):
            raise SpecError(f"--input {text}: expected NAME=FILE for each of {', '.join(names)}")
    return {
        name: load(f"input {name!r}", Path(file), shapes[name], element_type(model, name))
        for name, file in named(texts, names[0], names, "--input").items()
    }


def argument(facts: Mapping[str, Any], text: str) -> np.ndarray:
    """The array for an argument of a function, as stated in its manifest: a .npy file, or a number for a
    scale or a zero point. Raises SpecError."""
    name, dtype, shape = facts["name"], numpy_dtype(facts["dtype"]), tuple(facts["shape"])
    if is_quantisation(name):
        number = _number(text)
        if number is not None:
            return np.array([number])
        return load(name, Path(text), None if _size(Path(text)) == 1 else shape, None)
    return load(name, Path(text), shape, dtype)


def load(
    name: str, path: Path, shape: Sequence[int] | None, dtype: np.dtype | None
) -> np.ndarray:
    """The array of a .npy file, which must have this shape and type (None: any). Objects are not read.

    Raises SpecError for a file that does not fit, before its data are read.
    """
    found_shape, found = _header(path)
    if dtype == BFLOAT16 and found.itemsize == 2 and found.kind in "Vui":  # NumPy has no such type
        found = BFLOAT16
    if shape is not None and found_shape != tuple(shape):
        wanted = console.shape(shape) or "one number"
        raise SpecError(f"{name}: {path} has shape {found_shape}, expected {tuple(shape)}, {wanted}")
    if dtype is not None and found != dtype:
        wanted = "bfloat16" if dtype == BFLOAT16 else dtype
        raise SpecError(f"{name}: {path} has dtype {found}, expected {wanted}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError):
        raise SpecError(f"{name}: {path} is cut short, expected a whole .npy file") from None
    except MemoryError:
        size = console.size(math.prod(found_shape) * found.itemsize)
        raise SpecError(f"{name}: {path} has {size}, expected an array that fits into memory") from None
    return array.view(BFLOAT16) if dtype == BFLOAT16 else array


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _size(path: Path) -> int:
    return math.prod(_header(path)[0])


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of a .npy file. Raises SpecError for other files, or one with Python objects."""
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            raise SpecError(f"{path}: holds several arrays; expected a .npy file")
        file.seek(0)
        try:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else (
                np.lib.format.read_array_header_2_0
            )  # fmt: skip
            shape, _, dtype = read(file)
        except (ValueError, EOFError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise SpecError(f"{path}: not an array; expected a .npy file") from None
    if dtype.hasobject:
        raise SpecError(f"{path}: an array of Python's objects, expected one of numbers")
    return shape, dtype
