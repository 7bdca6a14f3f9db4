"""A library mapped from its bytes, through a private copy that nobody else writes to.

The loader would map whatever file then has the name, and treats a name or an inode that it has seen before as
the library it already has. So each library gets its own file. That file stays while the library is mapped,
for debuggers and profilers to read, in a temporary folder of this process; if there is no folder to run code
from, the copy is in memory. When nothing refers to a library any more, it is unmapped.

``TVMCONV_KEEP_LOADED=1`` keeps the files when the process ends, for a profiler that reads them afterwards.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import re
import shutil
import stat
import tempfile
import time
import weakref
from functools import lru_cache

_FOLDER = "tvmconv-loaded-"
_NEW = 60.0  # seconds during which a new folder may not be locked yet
_MFD_EXEC = 0x10  # MFD_EXEC, which Python has no name for
_numbers = itertools.count()

_dlclose = ctypes.CDLL(None).dlclose
_dlclose.argtypes, _dlclose.restype = [ctypes.c_void_p], ctypes.c_int


def mapped(data: bytes, name: str, *, keep: bool = False) -> tuple[ctypes.CDLL, str]:
    """The library in ``data``, and the path of its copy; ``name``: of the file that it came from.

    It is unmapped when neither the result nor a function taken from it is left, unless ``keep``. Raises
    OSError if the loader refuses it, or there is no room for the copy.
    """
    name = re.sub(r"[^\w.+-]", "_", name, flags=re.ASCII)[-100:]
    try:
        return _from_file(data, name, keep)
    except OSError as error:  # no temporary folder, a full one, or one mounted noexec
        try:
            return _from_memory(data, name, keep)
        except (OSError, AttributeError):  # AttributeError: a system or a Python without memfd_create
            raise error from None


def _from_file(data: bytes, name: str, keep: bool) -> tuple[ctypes.CDLL, str]:
    folder = _folder(os.getpid())
    if not os.path.isdir(folder):  # something cleaned up
        _folder.cache_clear()
        folder = _folder(os.getpid())
    if os.statvfs(folder).f_flag & os.ST_NOEXEC:
        raise OSError(errno.EACCES, "the temporary folder is mounted noexec", folder)
    path = os.path.join(folder, f"{next(_numbers)}-{name}")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o500), "wb") as file:
            file.write(data)
        library = ctypes.CDLL(path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    if not keep:
        weakref.finalize(library, _unmap_file, library._handle, path, os.getpid()).atexit = False
    return library, path


def _unmap_file(handle: int, path: str, pid: int) -> None:
    _dlclose(handle)
    if os.getpid() == pid:  # a forked child has the library too
        with contextlib.suppress(OSError):
            os.unlink(path)


def _from_memory(data: bytes, name: str, keep: bool) -> tuple[ctypes.CDLL, str]:
    try:
        copy = os.memfd_create(name, os.MFD_CLOEXEC | _MFD_EXEC)
    except OSError:  # a kernel before 6.3, where it may be executed anyway
        copy = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(copy, "wb", closefd=False) as file:
            file.write(data)
        path = _fd_path(copy)
        while _is_mapped(path):  # by a library that stayed after its number was released
            copy = os.dup(copy)
            path = _fd_path(copy)
        library = ctypes.CDLL(path)
    except BaseException:
        os.close(copy)
        raise
    if not keep:  # open until then, so that no other library gets its name
        weakref.finalize(library, _unmap_memory, library._handle, copy).atexit = False
    return library, path


def _unmap_memory(handle: int, copy: int) -> None:
    _dlclose(handle)
    with contextlib.suppress(OSError):
        os.close(copy)


def _fd_path(number: int) -> str:
    return f"/proc/{os.getpid()}/fd/{number}"


def _is_mapped(path: str) -> bool:
    try:
        _dlclose(ctypes.CDLL(path, os.RTLD_NOLOAD)._handle)
    except OSError:
        return False
    return True


@lru_cache(maxsize=1)
def _folder(pid: int) -> str:
    """The folder of this process, which removes it at its end. Raises OSError."""
    kept = os.environ.get("TVMCONV_KEEP_LOADED", "") not in ("", "0")
    folder = tempfile.mkdtemp(prefix="tvmconv-kept-" if kept else _FOLDER)
    if not kept:
        # Locked by us, and children that we fork, while there are any: see _tidy.
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_SH)
        atexit.register(_remove, folder, pid)
        _tidy(os.path.dirname(folder))
    return folder


def _remove(folder: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _tidy(parent: str) -> None:
    """Remove the folders of killed processes: those that nobody has locked."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(_FOLDER):
                with contextlib.suppress(OSError):
                    _remove_unlocked(entry.path)


def _remove_unlocked(folder: str) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        facts = os.fstat(lock)
        old = time.time() - facts.st_mtime > _NEW
        if old and facts.st_uid == os.geteuid() and stat.S_ISDIR(facts.st_mode):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(lock)
