"""The thread pool of a library: right from several threads at once, nested, after fork, and resized."""

from __future__ import annotations

import ctypes
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libraries
import numpy as np
import pytest

import tvmconv

Bounds = dict[str, tvmconv.Bound]
NAMES = ("dw", "pw", "nchw", "large")


@pytest.fixture(scope="module")
def bound() -> Bounds:
    return {name: libraries.module()[name].bind(*libraries.case(name)[1:3]) for name in NAMES}


@pytest.fixture(autouse=True)
def _watchdog() -> Any:
    """A deadlock ends the test run with a trace, not the machine's patience."""
    import faulthandler

    faulthandler.dump_traceback_later(240, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def _threads() -> Any:
    tvmconv.set_num_threads(4)
    yield
    tvmconv.set_num_threads(len(os.sched_getaffinity(0)))


def check(bound: Bounds, name: str) -> None:
    x, _, _, expected = libraries.case(name)
    out = np.full(expected.shape, np.nan, np.float32)
    bound[name](x, out=out)
    libraries.assert_right(out, expected)


def run_script(script: str, **environment: str) -> str:
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script], capture_output=True, text=True, timeout=240,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def tasks_of_thread() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 64])
def test_results_do_not_depend_on_the_number_of_threads(bound: Bounds, threads: int) -> None:
    tvmconv.set_num_threads(1)
    alone = {name: bound[name](libraries.case(name)[0]) for name in NAMES}
    tvmconv.set_num_threads(threads)
    for _ in range(20):
        for name in NAMES:
            np.testing.assert_array_equal(bound[name](libraries.case(name)[0]), alone[name])


def test_concurrent_callers(bound: Bounds) -> None:
    """Eight threads call four bound functions at once, and every result is right."""
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def caller(index: int) -> None:
        try:
            start.wait()
            for i in range(40):
                check(bound, NAMES[(index + i) % len(NAMES)])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caller, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_one_bound_function_from_several_threads(bound: Bounds) -> None:
    """A bound function is reentrant: calls on different inputs do not disturb one another."""
    x = libraries.case("large")[0]
    inputs = [x * np.float32(scale) for scale in range(1, 7)]
    expected = [bound["large"](each) for each in inputs]
    with ThreadPoolExecutor(6) as executor:
        for _ in range(5):
            for got, want in zip(executor.map(bound["large"], inputs), expected, strict=True):
                np.testing.assert_array_equal(got, want)


def test_resizing_while_others_call(bound: Bounds) -> None:
    stop = threading.Event()
    failures: list[BaseException] = []

    def caller() -> None:
        try:
            while not stop.is_set():
                check(bound, "large")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=caller) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in (1, 5, 2, 9, 3, 1, 8, 4) * 3:
        tvmconv.set_num_threads(n)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_number_of_threads_is_what_was_asked_for() -> None:
    said = run_script("""
import os
import libraries, tvmconv
def count():
    return len(os.listdir("/proc/self/task"))
module = libraries.module()
x, w, bias, expected = libraries.case("large")
before = count()
f = module["large"].bind(w, bias)
for n in (1, 4, 2, 6):
    tvmconv.set_num_threads(n)
    f(x)
    print(count() - before, end=" ")
""")
    assert said.split() == ["0", "3", "1", "5"]


@pytest.mark.parametrize(
    ("environment", "threads"),
    [({"TVMCONV_NUM_THREADS": "3", "TVM_NUM_THREADS": "5"}, 3), ({"TVM_NUM_THREADS": "5"}, 5),
     ({"TVMCONV_NUM_THREADS": "nonsense", "TVM_NUM_THREADS": ""}, None), ({}, None)],
)  # fmt: skip
def test_default_number_of_threads(environment: dict[str, str], threads: int | None) -> None:
    """TVMCONV_NUM_THREADS, else TVM_NUM_THREADS, else the CPU affinity."""
    said = run_script(
        """
import os
import libraries
module = libraries.module()
x, w, bias, expected = libraries.case("large")
f = module["large"].bind(w, bias)
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
before = len(os.listdir("/proc/self/task"))
f(x)
print(len(os.listdir("/proc/self/task")) - before + 1)
""",
        **{"TVMCONV_NUM_THREADS": "", "TVM_NUM_THREADS": "", **environment},
    )
    assert int(said) == (1 if threads is None else threads)


def in_child(work: Callable[[], None]) -> int:
    """Exit status of a forked child that does ``work``; 0 if all went well, -9 if it hung."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork(bound: Bounds) -> None:
    for name in NAMES:
        check(bound, name)  # the parent's pool is running

    def work() -> None:
        before = tasks_of_thread()
        for name in NAMES * 3:
            check(bound, name)
        assert tasks_of_thread() == before + 3, "the child has a pool of its own"
        tvmconv.set_num_threads(2)
        check(bound, "large")
        assert in_child(lambda: check(bound, "large")) == 0, "a grandchild as well"

    for _ in range(5):
        assert in_child(work) == 0
        check(bound, "large")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_other_threads_call(bound: Bounds) -> None:
    """The pool is busy at the moment of the fork; the child must not wait for threads that it lacks."""
    stop = threading.Event()

    def caller() -> None:
        x = libraries.case("large")[0]
        out = np.empty(libraries.SPECS["large"].output_shape, np.float32)
        while not stop.is_set():
            bound["large"](x, out=out)

    threads = [threading.Thread(target=caller) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        x = libraries.case("large")[0]
        for _ in range(15):
            assert in_child(lambda: bound["large"](x)) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


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


def test_libraries_share_one_pool(tmp_path: Path) -> None:
    """Two libraries on four threads: three workers in all, not six; set_num_threads is for both."""
    one = libraries.variant(names=["large"]).export(tmp_path / "one.so")
    two = libraries.variant(names=["large", "dw"], prefix="two").export(tmp_path / "two.so")
    said = run_script(f"""
import os
import numpy as np
import tvmconv
def count():
    return len(os.listdir("/proc/self/task"))
import libraries
x, w, bias, expected = libraries.case("large")
tvmconv.set_num_threads(4)  # before there is any library
before = count()
one, two = tvmconv.load({str(one)!r}), tvmconv.load({str(two)!r})
f, g = one["large"].bind(w, bias), two["large"].bind(w, bias)
for _ in range(3):
    libraries.assert_right(f(x), expected)
    libraries.assert_right(g(x), expected)
print(count() - before)
tvmconv.set_num_threads(2)
libraries.assert_right(g(x), expected)
print(count() - before)
""")
    assert said.split() == ["3", "1"]
