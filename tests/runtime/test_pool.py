"""The thread pool and the workspace of a library, called as kernels call them."""

from __future__ import annotations

import ctypes
import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libraries
import pytest

import tvmconv


@pytest.fixture(autouse=True)
def _threads() -> Any:
    tvmconv.set_num_threads(4)
    yield
    tvmconv.set_num_threads(len(os.sched_getaffinity(0)))


LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int)
TASK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int64 * 2), ctypes.c_void_p)


def launcher() -> Any:
    """What kernels call to run in parallel, straight from a library."""
    library = ctypes.CDLL(str(libraries.module().path))
    return LAUNCH(ctypes.c_void_p.in_dll(library, "__TVMBackendParallelLaunch").value)


def test_every_task_runs_once() -> None:
    launch = launcher()
    for asked in (0, 1, 2, 3, 50, 1000):
        ran: list[tuple[int, int]] = []

        @TASK
        def task(index: int, env: Any, data: Any, ran: list[tuple[int, int]] = ran) -> int:
            ran.append((index, ctypes.c_int32(env.contents[1] & 0xFFFFFFFF).value))
            return 0

        assert launch(ctypes.cast(task, ctypes.c_void_p), None, asked) == 0
        total = ran[0][1]
        assert asked in (0, total) and sorted(ran) == [(i, total) for i in range(total)]


def test_nested_launches() -> None:
    launch = launcher()
    ran: list[int] = []

    @TASK
    def inner(index: int, env: Any, data: Any) -> int:
        ran.append(index)
        return 0

    @TASK
    def outer(index: int, env: Any, data: Any) -> int:
        return int(launch(ctypes.cast(inner, ctypes.c_void_p), None, 3))

    assert launch(ctypes.cast(outer, ctypes.c_void_p), None, 8) == 0
    assert sorted(ran) == sorted([0, 1, 2] * 8)


def test_a_failing_task_fails_the_launch() -> None:
    launch = launcher()
    for bad in (0, 5, 9):

        @TASK
        def task(index: int, env: Any, data: Any, bad: int = bad) -> int:
            return -1 if index == bad else 0

        assert launch(ctypes.cast(task, ctypes.c_void_p), None, 10) != 0


def test_workspace() -> None:
    """Aligned to 64, apart from one another, freed in reverse order, from a thread that then ends."""
    library = ctypes.CDLL(str(libraries.module().path))
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    names = (f"__TVMBackend{name}Workspace" for name in ("Alloc", "Free"))
    at_alloc, at_free = (pointer.in_dll(library, name).value for name in names)
    alloc = ctypes.CFUNCTYPE(pointer, integer, integer, ctypes.c_uint64, integer, integer)(at_alloc)
    free = ctypes.CFUNCTYPE(integer, integer, integer, pointer)(at_free)

    def work() -> None:
        for sizes in ((1, 64, 100), (1000, 5000, 0), (1 << 20, 3), (80 << 20, 80 << 20), (7,)) * 3:
            got = [(alloc(1, 0, size, 2, 32), size) for size in sizes]
            assert all(at and at % 64 == 0 for at, _ in got)
            for at, size in got:
                ctypes.memset(at, 0xFF, min(size, 1 << 16))
            spans = sorted((at, at + size) for at, size in got)
            assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
            for at, _ in reversed(got):
                assert free(1, 0, at) == 0
        assert not alloc(1, 0, (1 << 64) - 64, 2, 32) and not alloc(1, 0, 1 << 62, 2, 32)

    with ThreadPoolExecutor(3) as executor:
        for done in [executor.submit(work) for _ in range(6)]:
            done.result()
