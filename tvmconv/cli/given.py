"""Files given where another kind is wanted, with what to type instead; and functions of a library by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvmconv.base.errors import Error
from tvmconv.base.messages import hint, near, shown

_KINDS = {".onnx": "model", ".txt": "list", ".so": "library", ".a": "library", ".o": "library"}


def kind_of_file(text: str) -> str | None:
    """"model", "list" of descriptors or "library", by a file's name and first bytes; None for all else."""
    path = Path(text)
    if path.suffix.lower() in _KINDS:
        return _KINDS[path.suffix.lower()]
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return None
    if start.startswith((b"\x7fELF", b"!<arch>\n")):
        return "library"
    return None if b"\0" in start else "list"


def whole_if_bare(
    descriptors: Sequence[str] | None, onnx: Path | None, whole: bool
) -> tuple[Sequence[str] | None, Path | None, bool]:
    """The three as given; or, for a model alone in place of descriptors, what --onnx MODEL --whole says."""
    if onnx is None and descriptors and len(descriptors) == 1 and kind_of_file(descriptors[0]) == "model":
        return None, Path(descriptors[0]), True
    return descriptors, onnx, whole


def expect_library(path: Path) -> Path:
    """``path``; raises Error for what a library is made from, with the command that makes one."""
    what, made = kind_of_file(str(path)), path.with_suffix(".so")
    if what == "model":
        how = f"{path} -o {made}"
    elif what == "list":
        how = f"-f {path} -o {made}"
    elif what is None and ":" in str(path) and not path.exists():
        how = f"{path} -o conv.so"
    else:
        return path
    raise Error(f"{path}: expected a library; 'tvmconv compile {how}' makes one")


def expect_model(path: Path | None) -> Path | None:
    """``path``; raises Error for a library or a list of descriptors."""
    what = None if path is None else kind_of_file(str(path))
    if what == "list":
        raise Error(f"{path}: expected an ONNX model; a file of descriptors is given as -f {path}")
    if what == "library":
        raise Error(f"{path}: expected an ONNX model, not a library made from one")
    return path


def expect_lists(paths: list[str] | None) -> list[str] | None:
    """``paths``; raises Error for a model or a library."""
    for path in paths or ():
        _refuse_no_list(path, "a file of descriptors")
    return paths


def expect_descriptor(text: str) -> str:
    """``text``; raises Error for a file, which some option takes."""
    _refuse_no_list(text, "a DESCRIPTOR")
    if kind_of_file(text) == "list":
        raise Error(f"{text}: expected a DESCRIPTOR; a file of them is given as -f {text}")
    return text


def _refuse_no_list(path: str, wanted: str) -> None:
    what = kind_of_file(path)
    if what == "model":
        raise Error(f"{path}: expected {wanted}; a model is given as --onnx {path}")
    if what == "library":
        raise Error(f"{path}: expected {wanted}; 'tvmconv inspect {path}' shows a library's own")


def functions_of(
    library: Path, manifest: Mapping[str, Any], names: Sequence[str] | None
) -> list[dict[str, Any]]:
    """The entries of the functions that ``names`` mean, each once, in their order: functions, groups of them
    or nodes of the model; all if there are no names. Raises Error for a name that is none of these."""
    from tvmconv.formats.manifest import functions_called

    if not names:
        return list(manifest["functions"])
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        called = functions_called(manifest, name)
        if not called:
            known = [entry["name"] for entry in manifest["functions"]]
            more = ", ..." if len(known) > 8 else ""
            listed = ", ".join(known[:8]) + more
            raise Error(
                f"function {shown(name)}: not in {library}, expected one of {listed}{hint(near(name, known))}"
            )
        found |= {entry["name"]: entry for entry in called}
    return list(found.values())
