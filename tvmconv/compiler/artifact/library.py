"""Library: compiled kernels under their names, ready to be linked into one shared library."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tvmconv.base import whole_files
from tvmconv.base.errors import ArtifactError, SpecError, TargetError
from tvmconv.base.version import own_version
from tvmconv.compiler.artifact import header as c_header
from tvmconv.compiler.artifact import linker, names
from tvmconv.compiler.artifact.c_source import Source
from tvmconv.compiler.artifact.cpu_source import TVM_VARIABLES, CpuSource
from tvmconv.compiler.artifact.gpu_source import GpuSource
from tvmconv.formats import manifest, statement
from tvmconv.formats.kernel import Kernel
from tvmconv.formats.program import Program, Variant
from tvmconv.schedules.dots import DOTS
from tvmconv.schedules.gpu_machines import GpuMachine

if TYPE_CHECKING:
    from tvmconv.runtime import Module
    from tvmconv.schedules.machines import AnyMachine

# Parts of TVM's runtime that the support code replaces. A kernel that needs another would crash.
_PROVIDED = {name.encode() for name in TVM_VARIABLES}


class Library:
    """Compiled functions for one or more targets: ``export`` makes the file, ``load`` runs them here.

    ``functions``: kernels, and programs of several, by their names in Python and, after ``prefix`` unless it
    is the default, in C. ``prefix``: of the C functions; the default one applies only to the library's own
    functions. ``cc``: the C compiler to link with, see ``compilers.find_cc``. ``baked``: packed weights to
    hold in the library, by function (``baking.packed_weights`` makes them); these functions can be called
    without weights. ``others``: the same functions for more targets of one architecture; chosen by CPU when
    the library is used. ``weights``: "file" puts the constants of programs into a file beside an
    exported library. ``about``: more keys for the manifest, and ``facts``: more keys for a function's
    entry in it; all JSON-able. Raises SpecError for names that are not C identifiers, are reserved in C or
    collide, TargetError for targets that cannot be combined, ArtifactError for a kernel that the support code
    cannot serve.

    ``variants``: kernels by target, the most demanding first; ``functions`` and ``machine`` are of the first.
    """

    def __init__(
        self,
        functions: Mapping[str, Kernel | Program],
        machine: AnyMachine,
        *,
        prefix: str = "tvmconv",
        cc: str | None = None,
        baked: Mapping[str, bytes] | None = None,
        about: Mapping[str, Any] | None = None,
        facts: Mapping[str, Mapping[str, Any]] | None = None,
        others: Sequence[Variant] = (),
        weights: str | None = None,
    ) -> None:
        if not functions:
            raise SpecError("functions: none, expected at least one")
        given = [Variant(machine, dict(functions), dict(baked or {})), *others]
        if len(given) == 1:
            given = [_without_tiles(given[0])]
        self.variants = tuple(sorted(given, key=lambda v: (-len(v.machine.requires), v.machine.part > 0)))
        check_request({name: _beside(f) for name, f in functions.items()},
                      [variant.machine for variant in self.variants], prefix)
        self.functions: Mapping[str, Kernel | Program] = MappingProxyType(dict(self.variants[0].functions))
        self.machine = self.variants[0].machine
        self.prefix = prefix
        self._cc, self._weights = cc, weights
        if baked:
            check_can_bake(self.machine)
        for variant in self.variants:
            _check_kernels(variant)
        self._manifest = statement.build(self.variants, prefix, _versions(), about=about, facts=facts)

    @property
    def manifest(self) -> dict[str, Any]:
        """What the exported file will say about itself; "sha256" is zeros here, the file's own once
        exported."""
        return self._manifest

    def export(
        self, path: str | os.PathLike[str], *, header: bool | str | os.PathLike[str] = True,
        level: str = "-O2", soname: str | None = None,
    ) -> Path:  # fmt: skip
        """Write the library to ``path``, and its C header beside it (``conv.so``: ``conv.h``), or where
        ``header`` says.

        A name ending in ``.a`` or ``.o`` makes a static library, or one object, to link into a program;
        ``.so`` (``.so.1``) a shared library. ``level``: the optimisation level for the code around the
        kernels. ``soname``: by which a program that is linked with a shared library looks for it, the file's
        name if not given; in one program all have to differ. Files appear whole or not at all, and one that
        is there already with these bytes stays as it is, with its time. Returns the library's path. Raises
        ArtifactError for another name, if there is no C compiler, linking fails, or a file cannot be written.
        """
        path = Path(path)
        kind = linker.kind_of(path, self.machine)
        beside = path.with_suffix(".weights").name if self._weights == "file" else None
        source = self.source(kind, beside)
        if soname is not None:
            linker.check_soname(soname, path, kind)
        files = {path: (self._link(soname or path.name, source, level), 0o777 if kind == "shared" else 0o666)}
        if header is not False:
            text = c_header.generate(source, self._manifest, path.stem)
            files[path.with_suffix(".h") if header is True else Path(header)] = text.encode("ascii"), 0o666
        if beside:
            assert isinstance(source, CpuSource)
            files[path.with_name(beside)] = source.weights_file, 0o666
        changed = {place: file for place, file in files.items() if not _holds(place, file[0])}
        try:
            whole_files.write(changed)
        except OSError as error:
            raise ArtifactError(f"path: {error.filename} cannot be written: {error.strerror}") from None
        return path

    def header(self, title: str = "conv") -> str:
        """The text of the C header. ``title`` names it in its include guard."""
        return c_header.generate(self.source(), self._manifest, title)

    def load(self) -> Module:
        """Link the library and load it, leaving no file behind. Raises ArtifactError."""
        from tvmconv.runtime.library import load_bytes

        name = f"{self.prefix}.so"
        return load_bytes(self._link(name), Path(name), temporary=True)

    def source(self, kind: str = "shared", weights: str | None = None) -> Source:
        """The C source around the kernels; ``kind`` as for ``linker.link``; ``weights``: the name of a file
        beside the library with the constants."""
        return _source_class(self.machine)(self.variants, self.prefix, kind, weights)

    def _link(self, soname: str, source: Source | None = None, level: str = "-O2") -> bytes:
        source = source or self.source()
        known = {key: value for key, value in self._manifest.items() if key != "weights"}  # of another export
        about = {**known, "kind": source.kind, **source.weights_facts()}
        linked, needs = linker.link(
            source.files(about), source.objects(), source.exported(), self.machine, kind=source.kind,
            soname=re.sub(r"[^\w.+-]", "_", soname), data=source.data(), cc=self._cc, level=level,
        )  # fmt: skip
        sealed, digest = manifest.seal(linked, needs)
        self._manifest = {**about, "libc": needs, "sha256": digest}
        return sealed


def _source_class(machine: AnyMachine) -> type[Source]:
    return GpuSource if isinstance(machine, GpuMachine) else CpuSource


def _beside(function: Kernel | Program) -> Sequence[str]:
    if isinstance(function, Program):
        return names.BESIDE_STEPS
    return names.BESIDE_WEIGHTS if function.packed else ()


def check_request(
    functions: Mapping[str, Sequence[str]], machines: Sequence[AnyMachine], prefix: str
) -> None:
    """Check what can be checked before anything is compiled. ``functions``: as for `names.check_names`.
    Raises SpecError and TargetError as ``Library`` does."""
    _check_targets(machines)
    names.check_names(functions, prefix, (*_source_class(machines[0]).LIBRARY_FUNCTIONS, "weights"))


def check_can_bake(machine: AnyMachine) -> None:
    """Raise SpecError where a library for ``machine`` cannot hold weights."""
    if isinstance(machine, GpuMachine):
        raise SpecError(f"baked: weights for {machine.name}, expected none: on a GPU they are bound")


def _check_targets(machines: Sequence[AnyMachine]) -> None:
    names = ", ".join(machine.name for machine in machines)
    if len(machines) == 1:
        return
    gpus = [isinstance(machine, GpuMachine) for machine in machines]
    if any(gpus):
        what = "one name for all GPUs, as cuda-sm_80,cuda-sm_90" if all(gpus) else "either CPUs or GPUs"
        raise TargetError(f"target: {names}, expected {what} for one library")
    if len({machine.arch for machine in machines}) > 1:
        raise TargetError(f"target: {names}, expected targets of one architecture for one library")
    told_by = [(frozenset(machine.requires), machine.part) for machine in machines]
    if len(set(told_by)) < len(told_by):
        raise TargetError(f"target: {names}, expected targets that a CPU's features tell apart")


def _kernels(function: Kernel | Program) -> Sequence[Kernel]:
    return function.kernels if isinstance(function, Program) else (function,)


def _without_tiles(variant: Variant) -> Variant:
    """``variant``, not asking for AMX if no kernel has products of tiles: systems may forbid these."""
    machine = variant.machine
    if isinstance(machine, GpuMachine) or not machine.amx:
        return variant
    dots = {kernel.schedule.get("dot") for f in variant.functions.values() for kernel in _kernels(f)}
    if any(dot is not None and DOTS[dot].in_tiles for dot in dots):
        return variant
    requires = tuple(name for name in machine.requires if not name.startswith("amx_"))
    return replace(variant, machine=replace(machine, requires=requires))


def _check_kernels(variant: Variant) -> None:
    for name, function in variant.functions.items():
        kernels = _kernels(function)
        code = b"".join(part for kernel in kernels for part in kernel.objects)
        if wanted := set(re.findall(rb"__TVM(?:Backend|FFI)\w+", code)) - _PROVIDED:
            what = ", ".join(sorted(symbol.decode() for symbol in wanted))
            raise ArtifactError(f"function {name}: its kernel needs {what}, which a library has not")
    for name, data in variant.baked.items():
        function = variant.functions[name]
        wanted_bytes = function.packed_bytes if isinstance(function, Kernel) else 0
        if len(data) != wanted_bytes:
            raise SpecError(f"baked[{name!r}]: {len(data)} bytes, expected {wanted_bytes}")


def _holds(path: Path, data: bytes) -> bool:
    """Whether a regular file has these bytes already; build tools then see that nothing has changed."""
    try:
        return path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data
    except (OSError, ValueError):
        return False


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        tvm = version("apache-tvm")
    except PackageNotFoundError:
        tvm = "unknown"
    return {"tvmconv": own_version(), "tvm": tvm}
