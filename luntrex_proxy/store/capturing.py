"""The debug captures of this process while they run: who is, how long by a clock that cannot jump, and sealing.

Requests ask `admit`; everything else is beside them. A process takes requests out of a capture's count before it uses
them, so several never capture more together; and it writes down how many seconds are left, so a restart adds none.
"""

import asyncio
import contextlib
import functools
import math
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from luntrex_proxy.core.capture import Captured
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.debugcapture import LIVE
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.sealedbox import seal

_PENDING_MAX: Final = 8  # requests under way or not stored yet: 2 MiB each at most
_LEASE_MAX: Final = 10
_TRIES: Final = 10  # in rounds in which the database answered otherwise
_READ: Final = f"""
SELECT c.capture_id, c.key_id, c.person_id, c.public_key,
       least(c.seconds_left, extract(epoch FROM c.expires_at - now()))::float8 AS seconds_left {LIVE}
"""  # noqa: S608 -- constants
_NOTE: Final = "UPDATE debug_capture SET seconds_left = least(seconds_left, $2) WHERE capture_id = $1"
# A quarter of what is left, so that the last ones are there for whichever process is asked.
_LEASE: Final = f"""
UPDATE debug_capture c SET requests_left = c.requests_left - taken.count
FROM (SELECT capture_id, least(greatest(requests_left / 4, 1), requests_left, {_LEASE_MAX}) AS count
      FROM debug_capture WHERE capture_id = $1 FOR UPDATE) taken
WHERE c.capture_id = taken.capture_id RETURNING taken.count
"""  # noqa: S608 -- constants


@dataclass(slots=True, eq=False)
class _Live:
    """A capture that runs."""

    capture_id: uuid.UUID
    person_id: uuid.UUID
    public_key: bytes
    deadline: float  # on the monotonic clock; only ever earlier
    allowance: int = 0  # requests this process may still capture


@dataclass(slots=True, eq=False)
class _Sealed:
    """A captured request that is not stored yet, readable to its owner alone."""

    live: _Live
    data: bytes = field(repr=False)
    tries: int = 0


class CaptureBook:
    """What `gateway` asks which requests to capture, and gives them to."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._live: dict[str, _Live] = {}  # by key id
        self._taken: deque[tuple[_Live, Captured]] = deque()
        self._sealed: deque[_Sealed] = deque()
        self._under_way = 0
        self._writing = asyncio.Lock()
        self.lost = 0  # captured, and could not be stored

    @property
    def active(self) -> bool:
        """Whether any request may have to be captured, or one is not stored yet."""
        return bool(self._live or self._pending)

    @property
    def _pending(self) -> int:
        return self._under_way + len(self._taken) + len(self._sealed)

    def admit(self, key_id: str) -> Callable[[Captured], None] | None:
        """Whom to give the next request of this key to once it is over; None: it is not captured."""
        live = self._live.get(key_id)
        if live is None or live.allowance < 1 or time.monotonic() >= live.deadline:
            return None
        if self._pending >= _PENDING_MAX:
            return None
        live.allowance -= 1
        self._under_way += 1
        return functools.partial(self._take, live)

    def _take(self, live: _Live, captured: Captured) -> None:
        self._under_way -= 1
        # A request may go on for long after its capture ended, or after somebody no longer agrees to it.
        if time.monotonic() < live.deadline and live in self._live.values():
            self._taken.append((live, captured))

    async def refresh(self) -> None:
        """Read which captures run, take requests out of their counts, and note how long they have. StoreError."""
        with store_errors("say which debug captures run"):
            rows = await self._pool.fetch(_READ)
            now, found = time.monotonic(), {}
            for row in rows:
                known = self._live.get(row["key_id"])
                deadline = now + row["seconds_left"]
                if known is None or known.capture_id != row["capture_id"]:
                    known = _Live(row["capture_id"], row["person_id"], row["public_key"], deadline)
                known.deadline = min(known.deadline, deadline)
                await self._pool.execute(_NOTE, known.capture_id, max(0, math.ceil(known.deadline - now)))
                if known.allowance < 1:
                    known.allowance = await self._pool.fetchval(_LEASE, known.capture_id) or 0
                found[row["key_id"]] = known
        self._live = found

    async def write(self) -> None:
        """Encrypt what was captured and store it. What fails waits behind the others; after some tries it is lost."""
        async with self._writing:
            while self._taken:
                live, captured = self._taken[0]
                try:
                    self._sealed.append(_Sealed(live, await asyncio.to_thread(_seal, live, captured)))
                except RefusedError:  # somebody changed the key in its row
                    self.lost += 1
                self._taken.popleft()
            for _ in range(len(self._sealed)):
                if not await self._stored(self._sealed[0]):
                    break  # the others have their turn in the next round, before it

    async def finish(self, wait_s: float) -> int:
        """At the end of the process: store what there is; how many could not be by then and go with the process."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self.write()
        return self._pending

    async def _stored(self, first: _Sealed) -> bool:
        """Store the first one, False: try it later; one that cannot be stored at all is lost."""
        try:
            with store_errors("take what was captured"):
                await self._pool.execute(
                    "INSERT INTO debug_capture_record (capture_id, person_id, sealed) VALUES ($1, $2, $3)",
                    first.live.capture_id,
                    first.live.person_id,
                    first.data,
                )
        except StoreError as error:
            first.tries += 1
            if first.tries < _TRIES and not isinstance(error, RefusedError):
                self._sealed.rotate(-1)
                return False
            self.lost += 1
        self._sealed.popleft()
        return True


def _seal(live: _Live, captured: Captured) -> bytes:
    plain = msgspec.json.encode(
        {
            "request_id": captured.request_id,
            "started_us": captured.started_us,
            "route": captured.route,
            "request": captured.request,
            "request_bytes": captured.request_bytes,
            "answer": b"".join(captured.answer),
            "answer_bytes": captured.answer_bytes,
        }
    )
    return seal(live.public_key, plain, live.capture_id.bytes)
