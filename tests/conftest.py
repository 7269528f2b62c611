"""What all tests of one run share: a place for made database clusters, gone at its end, and the spy that says what any
process of a test reached outside this machine: nothing, but for what a daemon's configuration names.
"""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.clusters import PLACE, make_place
from tests.spying import outside, sitecustomize

_made: list[str] = []


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the place, its workers inherit it; each of them is spied on."""
    sitecustomize.install(outside.noted.append)
    if PLACE not in os.environ:
        os.environ[PLACE] = make_place()
        _made.append(os.environ[PLACE])


def pytest_unconfigure(config: pytest.Config) -> None:
    """Nothing is left."""
    for place in _made:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(autouse=True)
def _nothing_leaves() -> Iterator[None]:
    """A test fails that connects, or looks up a name, outside this machine. Daemons: tests/whole/daemon.py."""
    outside.noted.clear()
    yield
    found = outside.taken()
    assert not found, f"reached outside this machine: {found}"
