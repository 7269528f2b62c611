"""Work on files in threads: what becomes of it when nobody waits for it any more."""

import asyncio
import gc
import threading
from typing import Any

import pytest

from luntrex_proxy.store.failures import SpoolUnreadableError, on_files


async def test_who_is_cancelled_waits_for_the_thread_and_its_error_is_no_fault_of_the_loop() -> None:
    """A stop with a bad disk: it goes once the thread is done, and nothing is reported that nobody can act on."""
    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: told.append(context))
    begun, go_on = threading.Event(), threading.Event()

    def read() -> None:
        begun.set()
        go_on.wait(30)
        raise OSError("the disk")

    work = asyncio.ensure_future(on_files(read))
    await asyncio.to_thread(begun.wait, 30)
    work.cancel()
    await asyncio.sleep(0.05)
    assert not work.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    del work
    gc.collect()
    await asyncio.sleep(0)
    assert told == []


async def test_an_error_of_the_disk_is_not_taken_for_the_networks() -> None:
    """Who waits for it hears that the spool cannot be read."""

    def read() -> None:
        raise OSError("the disk")

    with pytest.raises(SpoolUnreadableError):
        await on_files(read)
