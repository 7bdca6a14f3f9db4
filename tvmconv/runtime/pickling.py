"""Modules and functions through pickle, by the path of their library: nothing of it is copied, and the file
must be there, unchanged, where they are unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from tvmconv.base.errors import ArtifactError

if TYPE_CHECKING:
    from tvmconv.runtime.function import Bound, Function
    from tvmconv.runtime.library import Module


class Origin(NamedTuple):
    """A library's file, its SHA-256 by its manifest, and which of its targets runs here: packed weights are
    for that one alone."""

    path: str
    sha256: str
    variant: str


_loaded: WeakValueDictionary[Origin, Module] = WeakValueDictionary()


def origin_of(origin: Origin | None) -> Origin:
    """``origin``, where there is one. Raises ArtifactError."""
    if origin is None:
        raise ArtifactError("pickle: a library that was never exported, expected one loaded from a file")
    return origin


def module_again(origin: Origin) -> Module:
    """The library as it was pickled. Raises ArtifactError for a file that is missing or another now, or for
    a machine on which another of its targets runs; else as ``load``."""
    from tvmconv.runtime.library import load

    module = _loaded.get(origin)
    if module is None:
        module = load(Path(origin.path))
        if module.manifest["sha256"] != origin.sha256:
            raise ArtifactError(f"pickle: {origin.path} is not the library that was pickled, by its SHA-256")
        if module.variant != origin.variant:
            raise ArtifactError(
                f"pickle: {origin.path} runs its {module.variant} here, expected {origin.variant}, for which "
                "it was pickled"
            )
        _loaded[origin] = module
    return module


def function_again(origin: Origin, name: str) -> Function:
    """A function of the library as it was pickled; errors as ``module_again``."""
    return module_again(origin)[name]


def bound_again(origin: Origin, name: str, packed: Any) -> Bound:
    """A bound function, with its packed weights; errors as ``module_again``."""
    from tvmconv.runtime.function import Bound

    return Bound(function_again(origin, name), {}, packed=packed)
