"""Weights of a model in separate files. No more is read than the tensors use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmconv.base.errors import Error
from tvmconv.onnx.reading.tensors import byte_count

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def load_external(proto: ModelProto, folder: Path | None, digest: Any) -> None:
    """Read such weights into the model, and add them to a digest of hashlib's.

    Raises Error for a file that is missing or outside of `folder`, and for a place in it that does not fit
    the tensor.
    """
    from onnx import TensorProto

    tensors = _external(proto)
    needed, memory = sum(map(byte_count, tensors)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise Error(f"weights of {needed} bytes, more than this machine's memory ({memory} bytes)")
    for tensor in tensors:
        tensor.raw_data = _read(tensor, folder, digest)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def files_of(model: Path) -> list[Path]:
    """The files beside a model's that hold weights of it. Raises onnx's errors for what is no model."""
    import onnx

    tensors = _external(onnx.load(model, load_external_data=False))
    places = (item.value for tensor in tensors for item in tensor.external_data if item.key == "location")
    return [model.parent / place for place in dict.fromkeys(places)]


def _external(proto: ModelProto) -> list[TensorProto]:
    from onnx import TensorProto
    from onnx.external_data_helper import _get_all_tensors

    return [tensor for tensor in _get_all_tensors(proto) if tensor.data_location == TensorProto.EXTERNAL]


def _read(tensor: TensorProto, folder: Path | None, digest: Any) -> bytes:
    entry = {item.key: item.value for item in tensor.external_data}
    location, what = entry.get("location", ""), f"weights {tensor.name!r}"
    if folder is None:
        raise Error(f"{what} lie in {location!r}; expected a model that is read from a file")
    path = Path(folder, location)
    try:
        if path.is_absolute() != folder.is_absolute() or not _is_inside(path, folder):
            raise Error(f"{what} lie in {location!r}, expected a file in the model's folder")
        if not path.is_file():
            raise Error(f"{what} lie in {path}, which is missing")
        offset, wanted, size = _number(what, entry, "offset", 0), byte_count(tensor), path.stat().st_size
        length = _number(what, entry, "length", wanted)
        if length != wanted:
            raise Error(f"{what} in {path}: {length} bytes, expected {wanted} as its dims and type have")
        if offset + length > size:
            raise Error(f"{what} in {path}: they end at byte {offset + length} of a file of {size}")
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(length)
    except (OSError, ValueError) as error:  # a name with a zero in it, a file that must not be read
        raise Error(f"{what} in {location!r}: {error}") from None
    if len(data) != length:
        raise Error(f"{what} in {path}: {len(data)} bytes could be read, expected {length}")
    digest.update(f"{location} {offset} {length}\n".encode())
    digest.update(data)
    return data


def _is_inside(path: Path, folder: Path) -> bool:
    """Whether a file lies in a folder, links followed."""
    return path.resolve().is_relative_to(folder.resolve())


def _number(what: str, entry: dict[str, str], key: str, default: int) -> int:
    text = entry.get(key, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise Error(f"{what}: {key} {text!r}, expected a number of bytes")
    return int(text)
