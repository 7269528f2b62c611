"""Slows guessing down: of passwords, of codes, and of who is here. The counts: core/guessing.py."""

import asyncio
import contextlib
import hmac
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.control.lane import BusyError
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.guessing import NETWORK, PAIR, SUBJECT
from luntrex_proxy.store import guesses, sessions
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.guesses import Counted

_ROUND_S: Final = 0.05
# Making a person is more work than finding one; no machine is so busy that either takes this long.
_LETTER_ROUND_S: Final = 0.25


class ThrottledError(RefusedError):
    """Too many tries; the same for addresses that nobody has."""

    def __init__(self, wait_s: float) -> None:
        self.retry_after_s = int(wait_s) + 1
        super().__init__(f"Too many tries; wait {self.retry_after_s} seconds, then try again.", "throttled")


@dataclass(slots=True)
class Try:
    """One try under way. It counts as a failure unless it `was_right`."""

    was_right: bool = False


@contextlib.asynccontextmanager
async def trying(
    services: Services, what: str, address: str, network: str, *, free: bool = False
) -> AsyncIterator[Try]:
    """A try at a password or code of this address, or at making us write to it. ThrottledError: not yet.

    `free`: what other networks try holds nobody up, as where a right must not be taken from anybody.
    """
    began_s = time.monotonic()
    came_before = await sessions.came_before(services.pool, address, network)
    counts = (
        Counted(_hash(services, what, address, network), PAIR),
        Counted(_hash(services, what, "", network), NETWORK),
        Counted(_hash(services, what, address), SUBJECT, holds=not (came_before or free)),
    )
    one = Try()
    try:
        wait_s, counted = await guesses.claim(services.pool, *counts)
        if wait_s > 0:
            raise ThrottledError(wait_s)
        yield one
    except BusyError:
        await guesses.release(services.pool, counted)
        raise
    finally:
        if not one.was_right:
            # A person who is found takes some microseconds longer; answers at round moments do not show them.
            round_s = _LETTER_ROUND_S if what == "letter" else _ROUND_S
            await asyncio.sleep(round_s - (time.monotonic() - began_s) % round_s)
    if one.was_right:
        pair, _, subject = counts
        await guesses.release(services.pool, counted, (pair.subject_hash, subject.subject_hash))


def _hash(services: Services, *words: str) -> bytes:
    """Keyed, so that the table says nothing about whom it counts."""
    return hmac.digest(services.lookup.key, "\0".join(("guessing", *words)).encode(errors="replace"), "sha256")
