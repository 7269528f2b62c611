"""What processes have used of limits, in files of the state directory: a restart gives nobody a new amount.

    <root>/<number>.lock   held by flock by the process that counts there; the next one goes on where it stopped
    <root>/<number>.json   what is used: unix time and one list per bucket that is not full

Each process takes the first number that is free, so those of one machine find their counts again, whoever starts first.
It is written every second while anything changes, so what was let in within the last second before a kill -9 is lost;
what was held then counts as used. Nothing else is in it than ids, names of limits and numbers.
"""

import asyncio
import fcntl
import os
import time
from pathlib import Path
from typing import Final

import msgspec

from luntrex_proxy.core.buckets import Limits, Used
from luntrex_proxy.store.errors import StoreError

_EVERY_S: Final = 1.0
_SHARE: Final = 50  # of the time goes to writing, at most
_TURN: Final = 200  # accounts and keys at a time; then the loop may do other things
_NUMBERS_MAX: Final = 1_024
_BYTES_MAX: Final = 256 * 2**20


class _Content(msgspec.Struct, array_like=True):
    written_us: int
    used: list[Used]


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(_Content).decode


class LimitFile:
    """This process's place. Raises StoreError when it cannot have one."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self.failing = False  # the last write did not succeed
        self.damaged = False  # what the process before has written could not be read
        self._limits = limits
        self._asked = -1
        self._writing: asyncio.Future[None] | None = None
        try:
            root.mkdir(mode=0o700, exist_ok=True)
            self._lock, self._path = _first_free(root)
        except OSError as error:
            raise StoreError(f"What is used of limits cannot be kept in {root}: {error.strerror}.") from None

    def go_on(self) -> bool:
        """Count what the process before has used; False: what it has written is damaged."""
        try:
            self.damaged = self._path.stat().st_size > _BYTES_MAX
            content = _Content(0, []) if self.damaged else _decode(self._path.read_bytes())
        except FileNotFoundError:
            return True
        except (OSError, ValueError):
            self.damaged = True
            return False
        elapsed_ns = (int(time.time() * 1e6) - content.written_us) * 1_000
        for used in content.used:
            self._limits.go_on(used, elapsed_ns, time.perf_counter_ns())
        return not self.damaged

    async def keep(self) -> None:
        """Write what has changed, every second or as seldom as it has to be, until cancelled."""
        while True:
            began_s = time.perf_counter()
            await self.write()
            await asyncio.sleep(max(_EVERY_S, _SHARE * (time.perf_counter() - began_s)))

    async def write(self) -> None:
        """Write what is used now, unless it is written."""
        asked = self._limits.asked
        if asked == self._asked:
            return
        written_us, used, under_way = int(time.time() * 1e6), [], False
        idents = self._limits.in_use()
        for start in range(0, len(idents), _TURN):
            for ident in idents[start : start + _TURN]:
                used += self._limits.used(ident, time.perf_counter_ns())
                under_way = under_way or self._limits.holds(ident)
            await asyncio.sleep(0)
        data = _encode(_Content(written_us, used))
        # A write that is cancelled goes on in its thread; the next one must not meet it.
        self._writing = asyncio.ensure_future(asyncio.to_thread(_replace, self._path, data))
        try:
            await asyncio.shield(self._writing)
        except OSError:
            self.failing = True
            return
        self.failing = False
        self._asked = -1 if under_way else asked  # what is held turns out to be another amount without a new request

    async def close(self) -> None:
        """The last word, and let the place go. Call it when no request is under way any more."""
        if self._writing is not None:
            await asyncio.wait({self._writing})
        self._asked = -1
        await self.write()
        os.close(self._lock)


def _first_free(root: Path) -> tuple[int, Path]:
    for number in range(_NUMBERS_MAX):
        descriptor = os.open(root / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        else:
            return descriptor, root / f"{number}.json"
    raise OSError(0, f"{_NUMBERS_MAX} processes count there already")


def _replace(path: Path, data: bytes) -> None:
    new = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(new, flags, 0o600), "wb") as file:
        file.write(data)
    new.replace(path)
