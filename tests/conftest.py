"""Test settings: property tests draw the same examples in every run, so that a failure repeats; and the
libraries of the tests of artifact and runtime, each exported once."""

import importlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libraries
import pytest
from hypothesis import HealthCheck, settings

import tvmconv

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # a first example compiles; later ones do not
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("repeatable")


# Files that were measured to take longest: they come first, so that the processes that share the files
# end together.
LONGEST = ("test_boards", "test_fuzz", "test_edge", "test_tuning", "test_cuda_kernels", "test_conv_cases")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-seconds", type=float, default=60.0, help="how long test_fuzz.py looks")
    parser.addoption("--fuzz-seed", type=int, default=0, help="what it draws")


@pytest.fixture(scope="session", autouse=True)
def _compile_here() -> None:
    """Where several processes run the tests, each compiles by itself: more would have to import TVM first,
    and find no CPU that is free."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        importlib.import_module("tvmconv.compiler.compile")._FEWEST_A_WORKER = sys.maxsize


@pytest.fixture(scope="session", params=libraries.compilers())
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> libraries.Exported:
    cc = request.param
    return libraries.variant(cc=cc).export(tmp_path_factory.mktemp("exported") / "conv.so"), cc


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libraries.library().export(tmp_path_factory.mktemp("plain") / "conv.so")


@pytest.fixture(scope="session")
def gpu_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CUDA library of CUDA_SPECS, for two generations of GPUs."""
    made = tvmconv.compile(libraries.CUDA_SPECS, "cuda-sm_90,cuda-sm_80")
    return made.export(tmp_path_factory.mktemp("cuda") / "gpu.so")


@pytest.fixture(scope="session")
def module() -> tvmconv.Module:
    return libraries.module()


@pytest.fixture(scope="session")
def dw(module: tvmconv.Module) -> tvmconv.Function:
    return module["dw"]


@pytest.fixture(scope="session")
def bound(dw: tvmconv.Function) -> tvmconv.Bound:
    return dw.bind(*libraries.case("dw")[1:3])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how long the first hours of the book took: their tests record it."""
    for report in terminalreporter.stats.get("passed", ()):
        for name, value in report.user_properties:
            if name == "first hour":
                terminalreporter.write_line(f"the first hour of {value}")


# Reasons that no installation could remove: this CPU, what a compiler is, what a case means.
_INHERENT = re.compile(
    r"the CPU is not|this CPU|this is |x86|links for its own glibc|no pseudo-terminals"
    r"|got empty parameter set|has no DeformConv"
)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[Any]:
    """Where all tools are promised (scripts/test.sh), a test that lacks one fails."""
    report = (yield).get_result()
    if report.skipped and isinstance(report.longrepr, tuple) and os.environ.get("TVMCONV_ALL_TOOLS"):
        reason = str(report.longrepr[2])
        if not _INHERENT.search(reason):
            report.outcome = "failed"
            report.longrepr = f"not run, though every tool should be there: {reason}"
