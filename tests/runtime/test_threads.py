"""Calls from several threads at once, after fork, and on as many threads as was asked for."""

from __future__ import annotations

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
from places import DATA, SUPPORT

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
    head = f"import sys; sys.path.insert(0, {str(SUPPORT)!r})\n"
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
     ({"TVMCONV_NUM_THREADS": "", "TVM_NUM_THREADS": ""}, None), ({}, None)],
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


def test_kernels_tell_their_parallel_loops() -> None:
    """A copy of x as float32, then the convolution; the convolution alone; too little work for threads."""
    found = {
        name: len(tvmconv.compile({"f": descriptor}, "x86-64-v3").functions["f"].parallel)
        for name, descriptor in {
            "copy": "conv2d:2x28x28x128:o256:k3x3:NHWC:float16",
            "one": "conv2d:1x28x28x64:o64:k3x3:NHWC:float32",
            "none": "conv2d:1x4x4x8:o8:k1x1:NHWC:float32",
        }.items()
    }  # fmt: skip
    assert found == {"copy": 2, "one": 1, "none": 0}


def test_shares_of_a_loop_are_equal_parts(tmp_path: Path) -> None:
    program = tmp_path / "shares"
    artifact = Path(tvmconv.__file__).parent / "compiler" / "artifact"
    source = DATA / "shares.c"
    line = ["cc", "-O1", "-std=c99", "-pthread", f"-I{artifact}", os.fspath(source), "-o", os.fspath(program)]
    subprocess.run(line, check=True, capture_output=True)
    done = subprocess.run([program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
