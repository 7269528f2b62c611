"""What all tests of one run share: a place for made database clusters, gone at its end."""

import os
import shutil
import tempfile

import pytest

from tests.clusters import PLACE

_made: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the place, its workers inherit it."""
    if PLACE not in os.environ:
        os.environ[PLACE] = tempfile.mkdtemp(prefix="lx-clusters-")
        _made.append(os.environ[PLACE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing is left."""
    for place in _made:
        shutil.rmtree(place, ignore_errors=True)
