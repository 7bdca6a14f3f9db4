"""An ONNX model, read and checked: its operator set, its digest, its graph, the inputs that it wants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Union

from tvmconv.errors import Error, SpecError
from tvmconv.onnx.graph import Graph

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

Source = Union[str, Path, bytes, "ModelProto"]
Shapes = Mapping[str, "int | Sequence[int]"]

_OLDEST_OPSET = 1


@dataclass(frozen=True, eq=False)
class Model:
    """A model that passed the checks of `load`.

    name: what messages call it. digest: SHA-256 of the file and of its external weights. opset: version of
    the standard operators. folder: where external weights lie, None for a model from memory.
    """

    name: str
    proto: ModelProto
    digest: str
    opset: int
    graph: Graph
    folder: Path | None

    @property
    def inputs(self) -> dict[str, ValueInfoProto]:
        """The inputs that a caller has to give, by name: those without an initialiser."""
        given = {tensor.name for tensor in self.proto.graph.initializer}
        given |= {tensor.values.name for tensor in self.proto.graph.sparse_initializer}
        return {value.name: value for value in self.proto.graph.input if value.name not in given}


def load(source: Source) -> Model:
    """The model of a file, of a file's bytes, or of a ModelProto (not changed).

    Raises Error where it cannot be read: not a model, an operator set that is unknown or too new, external
    weights that are missing or too short.
    """
    onnx = require_onnx()
    if isinstance(source, Model):
        return source
    if isinstance(source, onnx.ModelProto):
        name, folder, data = "model", None, source.SerializeToString(deterministic=True)
    elif isinstance(source, bytes):
        name, folder, data = "model", None, source
    else:
        path = Path(source)
        name, folder, data = str(path), path.parent, path.read_bytes()
    proto = _parse(name, data)
    digest = hashlib.sha256(data)
    opset = _check_opset(name, proto)
    _load_external(name, proto, folder, digest)
    if len(proto.functions):
        from onnx.inliner import inline_local_functions

        proto = inline_local_functions(proto)
    return Model(name, proto, digest.hexdigest(), opset, Graph(proto, opset), folder)


@contextmanager
def damage_told(model: Model) -> Iterator[None]:
    """Turn what a malformed graph raises, somewhere inside, into an Error with the onnx checker's reason.

    An exception over a graph in which the checker finds nothing wrong passes through.
    """
    try:
        yield
    except Error:
        raise
    except Exception:
        from onnx import checker

        try:
            checker.check_model(model.proto)
        except Exception as reason:
            raise Error(f"{model.name}: not a valid ONNX model: {_line(reason)}") from None
        raise


def require_onnx():
    """The `onnx` module; raises Error, naming the pip extra, if it is not installed."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise Error("reading ONNX models needs onnx: pip install 'tvmconv[onnx]'") from None
    return onnx


def _parse(name: str, data: bytes) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load_model_from_string(data)
    except (DecodeError, ValueError) as error:
        raise Error(f"{name}: not an ONNX model, or a damaged one ({error})") from None
    # Protobuf takes an empty file, and much else, for a message in which nothing is set.
    if not proto.HasField("graph") or not proto.ir_version:
        raise Error(f"{name}: not an ONNX model ({len(data)} bytes without a graph)")
    if not proto.graph.node:
        raise Error(f"{name}: a model without a single node")
    return proto


def _check_opset(name: str, proto: ModelProto) -> int:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None:
        stated = ", ".join(f"{domain} {version}" for domain, version in versions.items()) or "none"
        raise Error(f"{name}: no version of the standard ONNX operators stated (stated: {stated})")
    if opset < _OLDEST_OPSET:
        raise Error(f"{name}: opset {opset} is unknown; expected {_OLDEST_OPSET} to {newest}")
    if opset > newest:
        raise Error(
            f"{name}: opset {opset} is too new: the installed onnx {onnx.__version__} knows up to {newest}"
        )
    return opset


def _load_external(name: str, proto: ModelProto, folder: Path | None, digest: hashlib._Hash) -> None:
    """Read weights that lie in files of their own, and add these files to the digest."""
    from onnx import TensorProto
    from onnx.external_data_helper import _get_all_tensors, load_external_data_for_tensor

    files: dict[str, int] = {}
    for tensor in _get_all_tensors(proto):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location, what = entry.get("location", ""), f"{name}: weights {tensor.name!r}"
        if folder is None:
            raise Error(f"{what} lie in {location!r}; expected a model that is read from a file")
        path = folder / location
        if location not in files:
            if not path.is_file():
                raise Error(f"{what} lie in {path}, which is missing")
            files[location] = path.stat().st_size
        try:
            end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
            if end > files[location]:
                raise ValueError(f"they end at byte {end} of a file of {files[location]}")
            load_external_data_for_tensor(tensor, str(folder))
        except Exception as error:  # also what onnx has against a path that leads out of the folder
            raise Error(f"{what} in {path}: {_line(error)}") from None
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]
    for location in sorted(files):
        digest.update(location.encode())
        with (folder / location).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)


def parse_shapes(texts: Iterable[str]) -> dict[str, int | tuple[int, ...]]:
    """Shapes as the command line states them: "x=1x3x48x192", or "batch=4" for a named dimension."""
    shapes: dict[str, int | tuple[int, ...]] = {}
    for text in texts:
        name, equals, dims = text.rpartition("=")
        parts = dims.split("x")
        if not equals or not name or not all(part.isascii() and part.isdigit() for part in parts):
            raise SpecError(f"shape {text!r}: expected NAME=1x3x224x224, or DIMENSION=1")
        if name in shapes:
            raise SpecError(f"shape of {name!r}: given twice")
        numbers = tuple(int(part) for part in parts)
        shapes[name] = numbers[0] if len(numbers) == 1 else numbers
    return shapes


def _line(error: Exception) -> str:
    """The first line of an error that says something."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
