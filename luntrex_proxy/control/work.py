"""Long work that tells how far it is and can be left and found again: exports, erasures, repricing, closing of months.

    async with told(pool, await begin(pool, kind, about)) as progress:   what is done inside is on record to its end
    await start(pool, kind, about, job)                                  the same, beside whoever asked for it

What is written down of it: store/work.py. When the process is killed nobody ends the row, and it counts as interrupted.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from luntrex_proxy.observe import logs
from luntrex_proxy.store import work as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.work import Work

__all__ = ["Job", "Progress", "Work", "begin", "get", "newest", "of_request", "start", "stop", "told"]
get, newest, of_request = table.get, table.newest, table.of_request
_UNEXPECTED: Final = "Something went wrong here; the log says more to who runs the installation. Start it again."
_running: set[asyncio.Task[None]] = set()  # a task that nobody holds may be gone before its end

log = structlog.get_logger()


@dataclass(slots=True)
class Progress:
    """How far a piece of work is, told by what does it."""

    work_id: uuid.UUID
    done: int = 0
    expected: int = 0
    result: dict[str, Any] = field(default_factory=dict)

    def to(self, done: int, expected: int) -> None:
        """So much of so much."""
        self.done, self.expected = done, expected


Job = Callable[[Progress], Awaitable[None]]


async def begin(pool: Pool, kind: str, about: Mapping[str, Any], person_id: uuid.UUID | None = None) -> Progress:
    """Put it on record. RefusedError: it cannot begin."""
    return Progress(await table.begin(pool, kind, about, person_id))


async def start(pool: Pool, kind: str, about: Mapping[str, Any], job: Job) -> uuid.UUID:
    """Begin it and come back at once; its id. RefusedError: it cannot begin."""
    progress = await begin(pool, kind, about)
    task = asyncio.create_task(_do(pool, progress, job))
    _running.add(task)
    task.add_done_callback(_running.discard)
    return progress.work_id


async def stop() -> None:
    """End what was started here, at its next step, and put that on record: while there is a database."""
    for task in _running:
        task.cancel()
    await asyncio.gather(*_running, return_exceptions=True)


async def _do(pool: Pool, progress: Progress, job: Job) -> None:
    try:
        async with told(pool, progress):
            await job(progress)
    except Exception as error:  # noqa: BLE001 -- nobody waits for it: that it failed is on record
        log.warning("luntrex.work_failed", **logs.describe(error))


@contextlib.asynccontextmanager
async def told(pool: Pool, progress: Progress) -> AsyncIterator[Progress]:
    """While what is inside runs, how far it is; and how it ended."""
    telling = asyncio.create_task(_tell(pool, progress))
    outcome = "stopped"
    try:
        yield progress
        outcome = "done"
    except StoreError as error:
        outcome = "failed"
        progress.result["error"] = str(error)
        raise
    except Exception:
        outcome = "failed"
        progress.result["error"] = _UNEXPECTED
        raise
    finally:
        telling.cancel()
        with contextlib.suppress(StoreError):
            await asyncio.shield(
                table.end(pool, progress.work_id, outcome, progress.done, progress.expected, progress.result)
            )


async def _tell(pool: Pool, progress: Progress) -> None:
    """Beside the work, however long one step of it takes."""
    while True:
        await asyncio.sleep(table.TELLS_EVERY_S)
        with contextlib.suppress(StoreError):
            await table.tell(pool, progress.work_id, progress.done, progress.expected)
