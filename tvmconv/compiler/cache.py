"""The cache on disk: compiled kernels, and the libraries of one-call convolutions.

A key holds everything that could change the bytes: this package's sources, TVM, the machine, the spec and,
for a library, the linker. Two processes that miss at the same time do the work twice and agree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from tvmconv.base.cache_folder import folder
from tvmconv.base.version import SOURCES
from tvmconv.compiler import cuda_toolchain
from tvmconv.formats.device_code import device_code
from tvmconv.formats.kernel import Kernel, Param
from tvmconv.schedules.gpu_machines import GpuMachine


def key(*parts: Any) -> str:
    """A hash, for a file name, over ``parts`` and what every entry depends on."""
    digest = hashlib.sha256(_sources().encode())
    for part in parts:
        if dataclasses.is_dataclass(part) and not isinstance(part, type):
            part = dataclasses.asdict(part)
        digest.update(json.dumps(part, sort_keys=True, default=str).encode() + b"\0")
    return digest.hexdigest()[:40]


def kernel_path(spec: Any, machine: Any, tuned: Any = None) -> Path:
    """The path of the kernel of ``spec`` for ``machine``, existing or not; ``tuned``: from a tuning log."""
    compiler = cuda_toolchain.identity() if isinstance(machine, GpuMachine) else None
    return folder() / f"{key('kernel', str(spec), machine, tuned, compiler)}.kernel"


def read_kernel(path: Path) -> Kernel | None:
    """The kernel of a cache entry; None if there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest, _, entry = data.partition(b"\n")
    if digest != hashlib.sha256(entry).hexdigest().encode():
        return None
    head, _, code = entry.partition(b"\n")
    try:
        facts = json.loads(head)
        for field in ("inputs", "weights", "packed", "more_outputs"):
            facts[field] = tuple(_param(p) for p in facts[field])
        facts |= {field: tuple(facts[field]) for field in ("parallel", "workspace", "order")}
        facts["device"] = device_code(facts["device"])
        end = len(code) - facts.pop("packer")
        return Kernel(
            object=code[:end], packer=code[end:], **{**facts, "output": _param(facts["output"])}
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # another kind of entry
        return None


def kernel_bytes(kernel: Kernel) -> bytes:
    """A cache entry: the SHA-256 of what follows; one line of JSON; the object file, and the one that packs
    if there is one."""
    facts = dataclasses.asdict(dataclasses.replace(kernel, object=b"", packer=b""))
    del facts["object"]
    facts["packer"] = len(kernel.packer)
    entry = json.dumps(facts).encode() + b"\n" + kernel.object + kernel.packer
    return hashlib.sha256(entry).hexdigest().encode() + b"\n" + entry


def _param(facts: dict[str, Any]) -> Param:
    return Param(**{**facts, "shape": tuple(facts["shape"])})


@lru_cache(maxsize=1)
def _sources() -> str:
    """A hash of this package's own files and of TVM's version."""
    from importlib.metadata import PackageNotFoundError, version

    import tvmconv.schedules

    digest = hashlib.sha256()
    for top in (SOURCES, Path(tvmconv.schedules.__file__).parent):
        for path in sorted(p for p in top.rglob("*") if p.suffix in (".py", ".c", ".h", ".cuh")):
            digest.update(str(path.relative_to(top)).encode() + b"\0" + path.read_bytes())
    for package in ("apache-tvm", "apache-tvm-ffi"):
        try:
            digest.update(version(package).encode())
        except PackageNotFoundError:
            digest.update(b"none")
    return digest.hexdigest()
