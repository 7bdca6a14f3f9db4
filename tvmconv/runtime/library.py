"""Loading a library: everything that can be checked beforehand is checked before its code is mapped."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from tvmconv.base.errors import ArtifactError, SpecError
from tvmconv.base.messages import near
from tvmconv.base.version import own_version
from tvmconv.formats import cpu_features as cpu
from tvmconv.formats import library_file as files
from tvmconv.formats import manifest as manifests
from tvmconv.formats import weights_file
from tvmconv.runtime import claims, libc, mapping
from tvmconv.runtime.bound import Bound
from tvmconv.runtime.by_shape import ByShape, groups_of
from tvmconv.runtime.function import Function
from tvmconv.runtime.program import ProgramFunction
from tvmconv.runtime.threads import check_environment


class _Shared:
    """What the libraries of this process share: the thread pool, and the workspace of each thread.

    Both belong to the library loaded first, which is never unmapped. They are held in variables of each
    library, which can be set to another library's.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.values: dict[str, int | None] = {}  # of the variables
        self.owners: list[ctypes.CDLL] = []
        self.set_threads: Any = None
        self.threads: int | None = None  # requested, maybe before any library was loaded

    def join(self, library: ctypes.CDLL, prefix: str) -> None:
        """Let the library run its kernels on the pool and in the workspace."""
        with self.lock:
            for name in manifests.SHARED:
                variable = ctypes.c_void_p.in_dll(library, name)
                variable.value = self.values.setdefault(name, variable.value)
            if self.set_threads is not None:
                return
            self.owners.append(library)
            self.set_threads = library[f"{prefix}_set_num_threads"]
            if self.threads is not None:
                self.set_threads(self.threads)

    def resize(self, n: int) -> None:
        with self.lock:
            self.threads = n
            if self.set_threads is not None:
                self.set_threads(n)


_shared = _Shared()
os.register_at_fork(after_in_child=lambda: setattr(_shared, "lock", threading.Lock()))  # maybe held elsewhere


def set_num_threads(n: int) -> None:
    """Run kernels on ``n`` threads from now on, in every library loaded here.

    The default is TVMCONV_NUM_THREADS, else TVM_NUM_THREADS, else the number of CPUs that the process's
    affinity and its cgroup's quota allow. Raises SpecError.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__") or int(n) < 1:
        raise SpecError(f"n: {n!r}, expected a positive integer")
    _shared.resize(min(int(n), 1 << 16))


class Module:
    """A loaded library: ``module[name]`` is a function, iterating gives names in the library's order. The
    nodes of an ONNX model do as names, too.

    ``manifest``: what the library says about itself, as a dict. ``path``: its file. ``functions``: an
    ordered, read-only mapping of names to functions. ``variant``: the target, of those in the library, whose
    kernels run here. ``groups``: of functions of one network for several shapes, by the name for all of
    them, which ``module[name]`` takes too.
    """

    __slots__ = ("__weakref__", "_origin", "functions", "groups", "manifest", "path", "variant")

    def __init__(
        self, path: Path, manifest: dict[str, Any], functions: dict[str, Function], variant: str,
        origin: Origin | None = None,
    ) -> None:
        self._origin = origin
        self.path = path
        self.manifest = manifest
        self.variant = variant
        self.functions: Mapping[str, Function] = MappingProxyType(functions)
        self.groups: Mapping[str, ByShape] = MappingProxyType(groups_of(manifest, functions))

    def __getitem__(self, name: str) -> Any:
        try:
            return self.groups[name] if name in self.groups else self.functions[name]
        except (KeyError, TypeError):
            for facts in self.manifest["functions"]:
                if name in facts.get("onnx_nodes", ()):
                    return self.functions[facts["name"]]
            names = ", ".join(near(name, self.functions, most=3) or list(self.functions)[:8])
            raise SpecError(f"function: {name!r}, expected one in {self.path}, as {names}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.functions)

    def __len__(self) -> int:
        return len(self.functions)

    def __contains__(self, name: object) -> bool:
        return name in self.functions or name in self.groups

    def __reduce__(self) -> tuple[Any, ...]:
        if self._origin is None:
            raise ArtifactError("pickle: a library without a file, expected an exported one")
        return self._origin.module, ()

    def __repr__(self) -> str:
        return f"<tvmconv library {self.path}: {', '.join(self.functions)}>"


def load(path: str | os.PathLike[str]) -> Module:
    """Load a library that tvmconv made, for this machine.

    The file is read once; the bytes that were read are what runs, whatever happens to the file later. The
    library is unmapped when nothing refers to the module, its functions or bound functions any more.

    Raises ArtifactError, before any of its code runs, for a file that is not one of our libraries, is
    damaged, or was made by a newer version, for another architecture, or for a CPU with features that this
    one lacks; Error for an environment variable that is not a number of threads.
    """
    file = files.library_path(path).absolute()
    return load_bytes(files.read(file), file)


def load_bytes(data: bytes, file: Path, *, temporary: bool = False) -> Module:
    """As ``load``, from a file's contents; ``temporary``: there is no ``file``, and the module's path is that
    of the private copy, which lasts as long as the library."""
    check_environment()
    manifest = manifests.read_from(data, file)
    _check_machine(file, manifest)
    gpu = "sms" in manifest["target"]
    if weights := manifest.get("weights"):
        weights_file.check(file.with_name(weights["file"]), weights)
    try:
        library, copy = mapping.mapped(data, file.name, keep=gpu)  # code on a GPU outlives the call
    except OSError as error:
        raise ArtifactError(f"library: {file} cannot be loaded: {' '.join(str(error).split())}") from None
    try:
        functions, variant = _functions(library, file, manifest)
    except (AttributeError, ValueError) as error:  # of ctypes, for a symbol
        if isinstance(error, SpecError):
            raise
        why = str(error).rpartition(": ")[2]
        raise ArtifactError(f"library: {file} lacks what its manifest states: {why}") from None
    if temporary:
        return Module(Path(copy), manifest, functions, variant)
    origin = Origin(str(file), manifest["sha256"], variant)
    for function in functions.values():
        function.come_from(origin)
    return Module(file, manifest, functions, variant, origin)


def _functions(
    library: ctypes.CDLL, file: Path, manifest: dict[str, Any]
) -> tuple[dict[str, Function], str]:
    """A library's functions, and the variant of them that runs here."""
    prefix = manifest["prefix"]
    last_error = library[f"{prefix}_last_error"]
    last_error.argtypes, last_error.restype = [], ctypes.c_char_p
    gpu = "sms" in manifest["target"]
    for facts in manifest["functions"]:
        if why := claims.unlike(library, facts, last_error, gpu=gpu):
            raise ArtifactError(f"library: {file} is not what its manifest states: {why}")
    variant = manifest["target"]["name"]
    if gpu:
        if library[f"{prefix}_check_device"](-1):
            why = last_error().decode("utf-8", "replace")
            raise ArtifactError(f"library: {file} needs an NVIDIA GPU ({manifest['target']['name']}): {why}")
    else:
        choose = library[f"{prefix}_variant"]
        choose.argtypes, choose.restype = [], ctypes.c_char_p
        chosen = choose()
        if chosen is None:
            raise ArtifactError(f"library: {file}: {(last_error() or b'').decode('utf-8', 'replace')}")
        variant = chosen.decode()
        if weights := manifest.get("weights"):  # the copy of the library is in another folder
            give = library[f"{prefix}_weights"]
            give.argtypes = [ctypes.c_char_p]
            if give(os.fsencode(file.with_name(weights["file"]))):
                raise ArtifactError((last_error() or b"").decode("utf-8", "replace"))
        _shared.join(library, prefix)
    functions = {f["name"]: _kind(f, gpu)(library, f, last_error) for f in manifest["functions"]}
    return functions, variant


def _kind(facts: dict[str, Any], gpu: bool) -> type[Function]:
    """The class of a function."""
    if gpu:
        from tvmconv.runtime.gpu.function import GpuFunction

        if manifests.STEPS in facts:
            name = facts["name"]
            raise ArtifactError(f"function {name}: of several steps on a GPU, expected a call from C")
        return GpuFunction
    if manifests.STEPS in facts:
        return ProgramFunction
    return Function


def _check_machine(file: Path, manifest: dict[str, Any]) -> None:
    known = manifests.ABI, manifests.PROGRAM_ABI
    if manifest["abi"] not in known:
        wanted = " or ".join(map(str, known))
        older = manifest["abi"] < min(known)
        todo = "compile it again with the one here" if older else "update the one here"
        raise ArtifactError(
            f"library: {file} has C ABI version {manifest['abi']}, expected {wanted}: tvmconv "
            f"{manifest['tvmconv']} made it, {own_version()} is here; {todo}"
        )
    if manifest["kind"] != "shared":
        kind = manifest["kind"]
        raise ArtifactError(f"library: {file} is an {kind} to link into a program, expected a shared library")
    target = manifest["target"]
    here = cpu.host_arch()
    if target["arch"] != here:
        raise ArtifactError(
            f"library: {file} is for {target['arch']} ({target['name']}), expected {here}, this machine; "
            "run it there with pip install tvmconv, or call it from C: its header says how"
        )
    foreign = libc.why_not(manifest.get("libc"))
    if foreign is not None:
        raise ArtifactError(f"library: {file} cannot be loaded: {foreign}; link with another cc=")
    have = cpu.host_features()
    able = any(have.issuperset(variant["requires"]) for variant in manifest["variants"])
    if have and not able:  # where nothing is known, the library's own check decides
        missing = [name for name in target["requires"] if name not in have]
        hint = cpu.suggest_target()
        message = f"library: {file} needs {', '.join(missing)}, which this CPU lacks"
        raise ArtifactError(f"{message}; compile with --target {hint}" if hint else message)


class Origin(NamedTuple):
    """Where a library is: modules and functions are pickled by it, nothing of the library is copied.

    path, sha256: of its file, by its manifest. variant: the target that ran where it was pickled; packed
    weights are for that one alone.
    """

    path: str
    sha256: str
    variant: str

    def module(self) -> Module:
        """The library again. Raises ArtifactError for a file that is missing or another now, or where another
        of its targets runs; else as ``load``."""
        module = _unpickled.get(self)
        if module is None:
            module = load(self.path)
            if module.manifest["sha256"] != self.sha256:
                raise ArtifactError(f"pickle: {self.path}: another SHA-256 than the pickled library")
            if module.variant != self.variant:
                raise ArtifactError(f"pickle: {self.path} runs its {module.variant}, expected {self.variant}")
            _unpickled[self] = module
        return module

    def function(self, name: str) -> Function:
        """A function of it; errors as ``module``."""
        return self.module()[name]

    def bound(self, name: str, packed: Any) -> Bound:
        """A function with its packed weights; errors as ``module``."""
        return Bound(self.function(name), {}, packed=packed)


_unpickled: WeakValueDictionary[Origin, Module] = WeakValueDictionary()
