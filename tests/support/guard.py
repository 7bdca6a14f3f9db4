"""Arrays between guard pages, and child processes to use them in.

A page next to such an array cannot be touched: one element read or written outside ends the process
with a signal. So code that might do that runs in a child process, and the test fails instead of dying.
"""

import ctypes
import json
import math
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

PAGE = mmap.PAGESIZE
PROT_NONE, PROT_READ = 0, 1
CANARY = 0xFF  # as float32 a NaN: it spoils what is computed from it

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def guarded(shape, dtype="float32", *, at="end", offset=0):
    """An array whose last byte ("end") or first byte ("start") lies ``offset`` bytes from a guard page.

    Both sides have a guard page; what is left between them and the array holds the canary. The memory
    lives as long as the array.
    """
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    inner = -(-max(nbytes + offset, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, inner + 2 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[:] = bytes([CANARY]) * len(memory)
    _protect(memory, 0, PAGE, PROT_NONE)
    _protect(memory, PAGE + inner, PAGE, PROT_NONE)
    first = PAGE + (offset if at == "start" else inner - nbytes - offset)
    return np.ndarray(shape, dtype, buffer=memory, offset=first)


def guarded_copy(array, *, at="end", offset=0, read_only=True):
    """A guarded array with the values of ``array``; ``read_only`` makes a write to its pages fatal too."""
    copy = guarded(array.shape, array.dtype, at=at, offset=offset)
    copy[...] = array
    if read_only:
        memory = copy.base
        _protect(memory, PAGE, len(memory) - 2 * PAGE, PROT_READ)
        copy.flags.writeable = False
    return copy


def outside_untouched(array):
    """Whether the bytes between a guarded array and its guard pages still hold the canary."""
    memory = np.frombuffer(array.base, np.uint8)
    first = array.ctypes.data - memory.ctypes.data
    outside = (memory[PAGE:first], memory[first + array.nbytes : len(memory) - PAGE])
    return all((part == CANARY).all() for part in outside)


def aligned(shape, dtype="float32", *, offset=0):
    """An array filled with the canary whose data begin ``offset`` bytes past a multiple of 64."""
    dtype = np.dtype(dtype)
    nbytes = math.prod(shape) * dtype.itemsize
    block = np.full(nbytes + 128, CANARY, np.uint8)
    first = -block.ctypes.data % 64 + offset
    return np.ndarray(shape, dtype, buffer=block.data, offset=first)


def aligned_copy(array, *, offset=0):
    """A copy of ``array`` whose data begin ``offset`` bytes past a multiple of 64."""
    copy = aligned(array.shape, array.dtype, offset=offset)
    copy[...] = array
    return copy


def in_child(function, *arguments, timeout=600):
    """Run ``function`` (of a module of tests, at top level) in a new process with JSON-able arguments.

    Returns what it printed. Raises AssertionError with the last lines printed when it raised or died, so
    a function that prints a case before it runs it names the case that ended the process.
    """
    call = json.dumps([function.__module__, function.__qualname__, list(arguments)])
    paths = [str(Path(__file__).parent), *(path for path in sys.path if path), os.getcwd()]
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", "import guard; guard.child_main()"],
        input=call,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONUNBUFFERED": "1"},
    )
    if done.returncode:
        died = done.returncode < 0
        how = f"died of {signal.Signals(-done.returncode).name}" if died else f"exit {done.returncode}"
        last = "\n".join(done.stdout.splitlines()[-3:])
        raise AssertionError(f"child process {how}; it had printed last:\n{last}\n{done.stderr[-3000:]}")
    return done.stdout


def child_main():
    """The child's side of ``in_child``."""
    from importlib import import_module

    module, name, arguments = json.load(sys.stdin)
    getattr(import_module(module), name)(*arguments)


def _protect(memory, first, size, protection):
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory)) + first
    if _libc.mprotect(address, size, protection):
        raise OSError(ctypes.get_errno(), "mprotect")


def read_one_past(at, how_far):
    """For the guard's own test: read the element ``how_far`` elements past the ``at`` side of an array."""
    array = guarded((5,), at=at)
    array[:] = 1
    print("inside", flush=True)
    elements = ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_float))
    assert elements[0] + elements[4] == 2
    print(f"outside {at} {how_far}", flush=True)
    index = 4 + how_far if at == "end" else -how_far
    ctypes.c_float(elements[index])
    print("survived", flush=True)


def write_to_input():
    """For the guard's own test: write to a read-only copy behind NumPy's back."""
    array = guarded_copy(np.ones(5, np.float32))
    ctypes.cast(array.ctypes.data, ctypes.POINTER(ctypes.c_float))[0] = 2
