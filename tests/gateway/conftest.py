"""Every test of this room runs on both event loops: asyncio's own and uvloop, which the daemon uses."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop


@pytest.hookimpl(optionalhook=True)  # pytest-asyncio before 1.4 does not know it and runs asyncio's loop alone
def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Both loops."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
