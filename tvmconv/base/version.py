"""The version of tvmconv, and where its sources are."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

SOURCES = Path(__file__).parent.parent
"""The folder of the package ``tvmconv``."""


def own_version() -> str:
    """This package's version."""
    try:
        return version("tvmconv")
    except PackageNotFoundError:
        return "0+unknown"  # run from a source tree that was never installed
