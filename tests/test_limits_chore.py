"""The chore of limits: it says once what nobody would see, that counts are not kept or began anew."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
import structlog

from luntrex_proxy import chores
from luntrex_proxy.core.buckets import Limits, take
from luntrex_proxy.store.limitfile import LimitFile
from luntrex_proxy.store.limiting import LimitBook
from luntrex_proxy.store.newest import Seen


class NoBook(LimitBook):
    """Nothing ever changes."""

    def __init__(self) -> None:
        self.readings: list[int] = []

    async def refresh(self, readings: int = 1) -> None:
        """Note it."""
        self.readings.append(readings)


async def test_trouble_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged file at the start; a disk that is full, and again when it was not meanwhile."""
    monkeypatch.setattr(chores, "_LIMITS_EVERY_S", 0.01)
    (tmp_path / "0.json").write_bytes(b"x")
    limits = Limits()
    limits.say("k", {"": {"requests/day": 9}}, 0)
    file, book = LimitFile(tmp_path, limits), NoBook()
    assert not file.go_on()

    def full(_path: Path, _to: Path) -> None:
        raise OSError(28, "No space left on device")

    async def write() -> None:
        take(limits.applying(1, "k", "m", 0), 0, streamed=False, now_ns=time.perf_counter_ns())
        await file.write()
        await asyncio.sleep(0.05)

    with structlog.testing.capture_logs() as said:
        task = asyncio.ensure_future(chores.follow_limits(book, file, lambda: Seen(readings=1)))
        for _ in range(2):
            with monkeypatch.context() as context:
                context.setattr(Path, "replace", full)
                await write()
                await write()
            await write()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    events = [line["event"] for line in said]
    assert events == ["luntrex.limits_begin_anew", "luntrex.limits_not_kept", "luntrex.limits_not_kept"]
    assert book.readings == [1]
