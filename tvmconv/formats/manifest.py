"""The manifest: what a library says about itself, as JSON in its read-only data.

It follows a magic string and its length, so it can be found by reading the file, on any machine and for any
architecture, without loading the library. Its last key is the SHA-256 of the whole file, computed with that
field zeroed. Standard library only: this is half of the runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvmconv.base.errors import ArtifactError
from tvmconv.formats import library_file as files
from tvmconv.formats import stated

DEFAULT_PREFIX = "tvmconv"  # of C functions' names
FORMAT = 1  # of the manifest; a reader refuses newer ones
ABI = 2  # of the C functions, and of what our runtime looks for besides them
PROGRAM_ABI = 3  # the same where there are functions of several steps, which take arrays of pointers
# Variables that our runtime sets, so that a process has one pool and each thread one workspace: see pool.c
# and support.c.
SHARED = ("tcv_shared_launch", "tcv_shared_alloc", "tcv_shared_free")
MAGIC = b"\x7fTVMCONV-MANIFEST\n"
STEPS = "steps"  # of the entry of a function of several steps: what they compute, and more, see `steps_of`
PLANS = "plans"  # of such an entry: what other targets' steps are, by target
# Of such an entry: by target, what lies in the workspace, as {"value": which the buffer is named after,
# "offset", "bytes", "first", "last": the steps in which it is alive, from 0 on}.
BUFFERS = "buffers"
WORKSPACE = ("workspace_bytes", "thread_workspace_bytes")  # of a function's entry, as ``Kernel.workspace``
_LENGTH_DIGITS = 8  # hexadecimal
_HASH_DIGITS = 64
ZEROS = "0" * _HASH_DIGITS  # of a hash that is yet to be made
_LIBC_ROOM = 26  # of the field's value, which is known once the library is linked


def symbol_of(name: str, prefix: str) -> str:
    """The C name of the function ``name``: with a custom prefix, which covers everything."""
    return name if prefix == DEFAULT_PREFIX else f"{prefix}_{name}"


def steps_symbol(symbol: str) -> str:
    """The C name of the function that runs some of the steps of the function ``symbol``."""
    return f"{symbol}_steps"


def steps_of(function: Mapping[str, Any], target: str) -> list[dict[str, Any]]:
    """What the entry of a function of several steps says of each, where kernels for ``target`` run:
    "descriptor" of the kernel, "source": the model's nodes, "flops", "bytes": those that it must move at
    least, "algorithm" of a convolution and "combines" if it takes fewer products than the definition,
    "results": arrays that it writes, as {"value": its name, "at": "workspace" or an output's name, "offset"
    in bytes, "shape", "dtype"} and "pitch" where rows along the last dim lie so many elements apart. Empty
    for a library that does not say."""
    plan = function.get(PLANS, {}).get(target, function)
    columns = zip(plan[STEPS], plan.get("sources", ()), plan.get("step_facts", ()), strict=False)
    return [{"descriptor": text, "source": source, **facts} for text, source, facts in columns]


def functions_called(manifest: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The entries of the functions that ``name`` means: a function's own, its group's, or a node's of the
    model. Empty if there is none."""
    return [
        entry
        for entry in manifest["functions"]
        if name in (entry["name"], entry.get("group"), *entry.get("onnx_nodes", ()))
    ]


def workspace_text(function: Mapping[str, Any]) -> str:
    """The workspace that a function's entry states, in words, and a comma; "" for an older library."""
    if not all(key in function for key in WORKSPACE):
        return ""
    call, thread = (function[key] for key in WORKSPACE)
    return f"{call} bytes of workspace and {thread} a thread,"


def embedded(manifest: dict[str, Any]) -> bytes:
    """The bytes that a library carries: magic, length, JSON; at its end, room for the C library and the
    zeroed hash."""
    facts = {key: value for key, value in manifest.items() if key not in ("libc", "sha256")}
    text = json.dumps(facts, separators=(",", ":"), ensure_ascii=True)[:-1] + _last(None, ZEROS)
    return MAGIC + f"{len(text):0{_LENGTH_DIGITS}x}".encode() + text.encode()


def _last(libc: str | None, digest: str) -> str:
    """The end of the JSON, always of the same length."""
    return f',"libc":{json.dumps(libc):<{_LIBC_ROOM}},"sha256":"{digest}"}}'


def seal(library: bytes, libc: str | None = None) -> tuple[bytes, str]:
    """A linked library with its required C library and its hash filled in, and the hash."""
    found = _find(library)
    if found is None:
        raise ArtifactError("library: no manifest in what was linked, expected one in its read-only data")
    end, size = sum(found), len(_last(None, ZEROS))
    before, after = library[: end - size], library[end:]
    zeroed = _last(libc, ZEROS).encode()
    if len(zeroed) != size:
        raise ArtifactError(f"library: needs {libc!r}, expected {_LIBC_ROOM - 2} characters at most")
    digest = hashlib.sha256(before + zeroed + after).hexdigest()
    return before + _last(libc, digest).encode() + after, digest


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The manifest of a library file of any architecture; nothing is loaded or run.

    Raises ArtifactError for a file that cannot be read, is not one of our libraries, was truncated or edited,
    has a newer format than this version knows, or makes no sense.
    """
    file = files.library_path(path)
    return read_from(files.read(file), file)


def read_from(data: bytes, path: Path) -> dict[str, Any]:
    """The manifest in the bytes of a library, which errors call ``path``. Raises ArtifactError."""
    found = _find(data)
    if found is None:
        raise ArtifactError(f"library: {path} was not made by tvmconv, or is damaged: it has no manifest")
    start, length = found
    try:
        manifest = json.loads(data[start : start + length])
        version, digest = manifest["format"], manifest["sha256"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArtifactError(f"library: {path} is damaged: its manifest is not readable") from None
    if isinstance(version, int) and version > FORMAT:
        raise ArtifactError(
            f"library: {path} has manifest format {version}, expected {FORMAT}: tvmconv "
            f"{manifest.get('tvmconv', 'of some newer version')} made it; update the one here"
        )
    if _digest(data, _hash_offset(start, length)) != digest:
        raise ArtifactError(f"library: {path} was changed after it was made: its SHA-256 does not match")
    try:
        stated.check(manifest)
    except stated.Misstated as error:
        raise ArtifactError(f"library: {path} has a manifest that makes no sense: {error}") from None
    return manifest


def _digest(data: bytes, at: int) -> str:
    """SHA-256 of a library with the field ``at`` zeroed."""
    digest = hashlib.sha256()
    with memoryview(data) as view:
        digest.update(view[:at])
        digest.update(ZEROS.encode())
        digest.update(view[at + _HASH_DIGITS :])
    return digest.hexdigest()


def _find(data: bytes) -> tuple[int, int] | None:
    """Offset and length of the JSON."""
    at = data.find(MAGIC)
    if at < 0:
        return None
    start = at + len(MAGIC) + _LENGTH_DIGITS
    try:
        length = int(data[at + len(MAGIC) : start], 16)
    except ValueError:
        return None
    if length <= _HASH_DIGITS or start + length > len(data):
        return None
    return start, length


def _hash_offset(start: int, length: int) -> int:
    return start + length - len('"}') - _HASH_DIGITS


def libc_text(manifest: Mapping[str, Any]) -> str:
    """The C library that a library needs, for people."""
    if manifest["kind"] != "shared":
        return "that of the program it is linked into"
    needs = manifest.get("libc") or "unknown"
    return f"{needs} or newer" if needs.startswith("glibc") else needs


def describe(manifest: dict[str, Any], *, only: Sequence[str] | None = None) -> str:
    """The manifest as text for people, several lines. ``only``: names of the functions to show."""
    target = manifest["target"]
    targets = ", ".join(variant["name"] for variant in manifest["variants"])
    lines = [
        f"made by   tvmconv {manifest['tvmconv']}, TVM {manifest['tvm']}"
        f" (format {manifest['format']}, C ABI {manifest['abi']}, prefix {manifest['prefix']})",
        f"target    {targets}: {target['triple']}, cpu {target['cpu']}",
        f"needs     {' '.join(target['requires']) or 'nothing beyond ' + target['arch']}",
        f"libc      {libc_text(manifest)}",
        f"sha256    {manifest['sha256']}",
    ]
    for function in manifest["functions"]:
        if only is not None and function["name"] not in only:
            continue
        schedule = " ".join(str(value) for value in function["schedule"].values() if isinstance(value, str))
        lines += ["", f"{function['name']}  {function['descriptor']}"]
        if "symbol" in function:
            lines.append(f"  in C: {function['symbol']}")
        for argument in function["arguments"]:
            shape = "x".join(map(str, argument["shape"]))
            text = f"  {argument['name']:<8} {argument['role']:<7} {shape} {argument['dtype']} "
            lines.append((text + argument["layout"]).rstrip())
        where = " in the library" if function.get("baked") else ""
        lines.append(
            f"  packed weights {function['packed_bytes']} bytes{where}, {workspace_text(function)}"
            f" {function['flops']} flops,"
            f" {function['bytes']} bytes moved, schedule {schedule or 'not stated'}"
        )
    return "\n".join(lines)
