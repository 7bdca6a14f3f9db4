"""Test settings: property tests draw the same examples in every run, so that a failure repeats; and the
libraries of the tests of artifact and runtime, each exported once."""

from pathlib import Path

import libraries
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,  # a first example compiles; later ones do not
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("repeatable")


@pytest.fixture(scope="session", params=libraries.compilers())
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> libraries.Exported:
    cc = request.param
    return libraries.variant(cc=cc).export(tmp_path_factory.mktemp("exported") / "conv.so"), cc


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return libraries.library().export(tmp_path_factory.mktemp("plain") / "conv.so")
