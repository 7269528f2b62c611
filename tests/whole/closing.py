"""A fixture for every conftest whose tests make SDK clients: their sockets are closed before pytest looks for leaks."""

from collections.abc import Iterator

import pytest

from tests.whole import calls


@pytest.fixture(scope="session", autouse=True)
def close_clients() -> Iterator[None]:
    """Close all sync SDK clients at the end of the session."""
    yield
    calls.close_all()
