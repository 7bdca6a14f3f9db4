"""An ONNX model, read and checked: its operator set, its digest, its graph, the inputs it needs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from tvmconv.base.errors import Error, SpecError
from tvmconv.onnx.reading.external import load_external
from tvmconv.onnx.reading.graph import Graph
from tvmconv.onnx.reading.soundness import check_functions, check_graph, check_texts

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

Source = Union[str, Path, bytes, "ModelProto"]
Shapes = Mapping[str, "int | Sequence[int]"]

_OLDEST_OPSET = 1
_MOST_BYTES = (1 << 31) - 1


@dataclass(frozen=True, eq=False)
class Model:
    """A model that passed the checks of `load`.

    name: what messages call it. proto: the model, its functions inlined; graph: its graph, as it is read.
    digest: SHA-256 of the file and of its external weights. opset: version of the standard operators. folder:
    where external weights lie, None for a model from memory.
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

    def facts(
        self, shapes: Mapping[str, Sequence[int]], layout: str, fixed: Mapping[str, Any], **more: Any
    ) -> dict[str, Any]:
        """What the manifest of a library that is made from it says of it, and ``more``."""
        values = {name: np.asarray(value).tolist() for name, value in fixed.items()}
        return {
            "onnx": {
                "model": os.path.basename(self.name),
                "digest": self.digest,
                "shapes": {name: list(shape) for name, shape in shapes.items()},
                "layout": layout,
                **more,
                **({"fixed": values} if values else {}),
            }
        }


def load(source: Source | Model) -> Model:
    """The model of a file, of a file's bytes, or of a ModelProto (not changed).

    Raises Error where it cannot be read: not a model, an operator set that is unknown or too new, external
    weights that are missing or do not fit, tensors or nodes that are damaged.
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
        name, folder, data = str(path), path.parent, _read(path)
    proto = _parse(name, data)
    digest = hashlib.sha256(data)
    try:
        check_texts(proto)
        opset = _check_opset(proto)
        load_external(proto, folder, digest)
        proto = _without_functions(proto)
        check_graph(proto, opset)
    except Error as error:
        raise Error(f"{name}: {error}") from None
    return Model(name, proto, digest.hexdigest(), opset, Graph(proto, opset), folder)


@contextmanager
def damage_told(model: Model) -> Iterator[None]:
    """Turn what a malformed graph raises, somewhere inside, into an Error: with the onnx checker's reason, or
    else with what was raised, which is its cause then."""
    try:
        yield
    except Error:
        raise
    except Exception as error:
        from onnx import checker

        try:
            checker.check_model(model.proto)
        except Exception as reason:
            raise Error(f"{model.name}: not a valid ONNX model: {_line(reason)}") from None
        said = f"{type(error).__name__}: {_line(error)}"
        raise Error(f"{model.name}: damaged, or not understood ({said})") from error


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


def _read(path: Path) -> bytes:
    """The bytes of a model's file, which cannot be longer than protobuf's limit."""
    if path.exists() and not path.is_file():
        raise Error(f"{path}: not a file")
    if path.stat().st_size > _MOST_BYTES:
        raise Error(f"{path}: {path.stat().st_size} bytes, and a model has at most {_MOST_BYTES}")
    return path.read_bytes()


def _without_functions(proto: ModelProto) -> ModelProto:
    """The model with its own functions written out where they are called."""
    if not len(proto.functions):
        return proto
    from onnx.inliner import inline_local_functions

    check_functions(proto)
    try:
        return inline_local_functions(proto)
    except Exception as error:
        raise Error(f"its functions: {_line(error)}") from None


def _check_opset(proto: ModelProto) -> int:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None:
        stated = ", ".join(f"{domain} {version}" for domain, version in versions.items()) or "none"
        raise Error(f"no version of the standard ONNX operators stated (stated: {stated})")
    if opset < _OLDEST_OPSET:
        raise Error(f"opset {opset} is unknown; expected {_OLDEST_OPSET} to {newest}")
    if opset > newest:
        raise Error(
            f"opset {opset} is too new: the installed onnx {onnx.__version__} knows up to {newest}"
        )
    return opset


def parse_shapes(texts: Iterable[str]) -> dict[str, int | tuple[int, ...]]:
    """Shapes as the command line states them: "x=1x3x48x192", or "batch=4" for a named dimension.
    Raises SpecError."""
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


def parse_variants(texts: Iterable[str]) -> list[dict[str, int | tuple[int, ...]]]:
    """Shapes of one library's variants: a name given several times has as many, others stay the same."""
    given: dict[str, list[int | tuple[int, ...]]] = {}
    for text in texts:
        ((name, shape),) = parse_shapes([text]).items()
        given.setdefault(name, []).append(shape)
    count = max(map(len, given.values()), default=1)
    if odd := next((name for name, shapes in given.items() if len(shapes) not in (1, count)), None):
        raise SpecError(f"shape of {odd!r}: given {len(given[odd])} times, expected once or {count} times")
    return [{name: shapes[i % len(shapes)] for name, shapes in given.items()} for i in range(count)]


def _line(error: Exception) -> str:
    """The first informative line of an error."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)
