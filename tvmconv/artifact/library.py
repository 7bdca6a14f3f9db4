"""Library: compiled kernels under their names, ready to be linked into one shared library."""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

from tvmconv.artifact import cuda_glue, glue, linker, manifest
from tvmconv.artifact import header as c_header
from tvmconv.artifact.kernel import Kernel
from tvmconv.errors import ArtifactError, SpecError
from tvmconv.schedules.gpu_machines import GpuMachine

if TYPE_CHECKING:
    from tvmconv.runtime import Module
    from tvmconv.schedules.machines import Machine

_numbers = itertools.count()

# Parts of TVM's runtime that the support code stands in for. A kernel that wants another would crash.
_PROVIDED = {name.encode() for name in glue.TVM_VARIABLES}


class Library:
    """Compiled functions for one target: ``export`` makes the file, ``load`` runs them here.

    ``functions``: kernels by the names that they get in C and Python. ``prefix``: of the library's own C
    functions. ``cc``: the C compiler to link with, see ``linker.find_cc``. ``baked``: packed weights to hold
    in the library, by function (``baking.packed_weights`` makes them); these functions can be called without
    weights. ``about``: more keys for the manifest, and ``facts``: more keys for a function's entry in it; all
    JSON-able. Raises SpecError for names that are no C identifiers or that collide, ArtifactError for a
    kernel that the support code cannot serve.
    """

    def __init__(
        self,
        functions: Mapping[str, Kernel],
        machine: Machine,
        *,
        prefix: str = "tvmconv",
        cc: str | None = None,
        baked: Mapping[str, bytes] | None = None,
        about: Mapping[str, Any] | None = None,
        facts: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        if not functions:
            raise SpecError("functions: none, expected at least one")
        self.functions: Mapping[str, Kernel] = MappingProxyType(dict(functions))
        self.machine = machine
        self.prefix = prefix
        self._cc = cc
        self._gpu = isinstance(machine, GpuMachine)
        names = cuda_glue.LIBRARY_FUNCTIONS if self._gpu else glue.LIBRARY_FUNCTIONS
        glue.check_names(dict(functions), prefix, names)
        for name, kernel in functions.items():
            wanted = set(re.findall(rb"__TVM(?:Backend|FFI)\w+", kernel.object)) - _PROVIDED
            if wanted:
                what = ", ".join(sorted(symbol.decode() for symbol in wanted))
                raise ArtifactError(f"function {name}: its kernel needs {what}, which a library has not")
        self._baked = dict(baked or {})
        if self._baked and self._gpu:
            raise SpecError(f"baked: weights for {machine.name}, expected none: on a GPU they are bound")
        for name, data in self._baked.items():
            if len(data) != (wanted := functions[name].packed_bytes):
                raise SpecError(f"baked[{name!r}]: {len(data)} bytes, expected {wanted}")
        self._manifest = manifest.build(
            dict(functions), machine, prefix, _versions(), baked=set(self._baked), about=about, facts=facts
        )

    @property
    def manifest(self) -> dict[str, Any]:
        """What the exported file will say of itself; "sha256" is zeros here, the file's own once exported."""
        return self._manifest

    def export(self, path: str | os.PathLike[str], *, header: bool = True) -> Path:
        """Write the shared library to ``path``, and its C header beside it (``conv.so``: ``conv.h``).

        Files appear whole or not at all. Returns the library's path. Raises ArtifactError if there is no C
        compiler, linking fails, or a file cannot be written.
        """
        path = Path(path)
        if path.suffix == ".h" and header:
            raise ArtifactError(f"path: {path}, expected a library's name, as {path.with_suffix('.so')}")
        _write(path, self._link(path.name), 0o777)
        if header:
            _write(path.with_suffix(".h"), self.header(path.stem).encode("ascii"))
        return path

    def header(self, title: str = "conv") -> str:
        """The text of the C header. ``title`` names it in its include guard."""
        return c_header.generate(dict(self.functions), self.machine, self.prefix, self._manifest, title)

    def load(self) -> Module:
        """Export to a temporary file, kept while this process lives, and load that."""
        from tvmconv.runtime import load

        return load(self.export(Path(_session_folder(), f"{next(_numbers)}.so"), header=False))

    def _link(self, soname: str) -> bytes:
        kernels = {kernel.symbol: kernel for kernel in self.functions.values()}
        for name, kernel in self.functions.items():
            if kernels[kernel.symbol] != kernel:
                raise ArtifactError(f"function {name}: symbol {kernel.symbol} is also another kernel's")
        if self._gpu:
            source = cuda_glue.generate(self.functions, self.machine, self.prefix, self._manifest)
            return self._sealed(source, [], cuda_glue, soname, cuda_glue.data(self.functions))
        symbols: dict[bytes, str] = {}  # equal weights are held once
        for data in self._baked.values():
            symbols.setdefault(data, f"tcv_baked_{len(symbols)}")
        names = {name: symbols[data] for name, data in self._baked.items()}
        source = glue.generate(dict(self.functions), self.machine, self.prefix, self._manifest, names)
        data = {symbol: data for data, symbol in symbols.items()}
        return self._sealed(source, [kernel.object for kernel in kernels.values()], glue, soname, data)

    def _sealed(
        self, source: str, objects: list[bytes], face: ModuleType, soname: str, data: dict[str, bytes]
    ) -> bytes:
        linked = linker.link(
            source,
            objects,
            face.exported_symbols(dict(self.functions), self.prefix),
            self.machine,
            soname=re.sub(r"[^\w.+-]", "_", soname),
            data=data,
            cc=self._cc,
        )
        sealed, self._manifest["sha256"] = manifest.seal(linked)
        return sealed


def _write(path: Path, data: bytes, mode: int = 0o666) -> None:
    """Write then rename, so that nobody ever sees half a file. Raises ArtifactError."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.{next(_numbers)}")
    try:
        try:
            with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
                file.write(data)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ArtifactError(f"path: {path} cannot be written: {error.strerror or error}") from None


@lru_cache(maxsize=1)
def _session_folder() -> str:
    folder, owner = tempfile.mkdtemp(prefix="tvmconv-"), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # not in a forked child
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    import tvmconv

    try:
        tvm = version("apache-tvm")
    except PackageNotFoundError:
        tvm = "unknown"
    return {"tvmconv": tvmconv.__version__, "tvm": tvm}
