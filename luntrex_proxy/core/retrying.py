"""The retry law: which failures the next target may have, and how many retries there are for all requests together.

An inference must not run twice. So the next target is asked only when nothing was sent, or when the answer is a whole
refusal: a complete error that says that no work was done. Everything else is handed through.
"""

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from luntrex_proxy.core.health import Verdict

# Complete answers that mean that the model did not run. 500, 502 and 504 do not: the work may be done and paid for.
OUR_CREDENTIALS_REFUSED = frozenset({401, 402, 403, 407})
NOT_RUN = frozenset({429, 503, 529}) | OUR_CREDENTIALS_REFUSED
# Of these only the first two are certainly ours; 402 and 403 can be about what this one client asked for.
_KEY_IS_WRONG = frozenset({401, 407})

WINDOW_S = 10.0


class Retries:
    """How often the next target may be asked after a refusal, over all requests of the process."""

    __slots__ = ("_floor", "_percent", "_requests_before", "_retries", "_window_until_s", "requests", "tries")

    def __init__(self, tries: int = 3, percent: int = 20, floor: int = 10) -> None:
        self.tries = tries  # upstreams asked for one request at most
        self.requests = 0  # ever; counted by the hot path
        self._percent = percent
        self._floor = floor  # in a window, so that a retry is possible when there is little traffic
        self._window_until_s = 0.0
        self._requests_before = 0
        self._retries = 0

    def take(self, now: float) -> bool:
        """Take one retry out of the budget, if there is one left."""
        if now >= self._window_until_s:
            self._window_until_s = now + WINDOW_S
            self._requests_before = self.requests
            self._retries = 0
        allowed = self._floor + (self.requests - self._requests_before) * self._percent // 100
        if self._retries >= allowed:
            return False
        self._retries += 1
        return True


def client_retries(headers: Mapping[bytes, bytes]) -> bool:
    """Whether this request is an SDK's own retry: ours on top would multiply. Only ever makes us do less."""
    return headers.get(b"x-stainless-retry-count", b"0").strip() not in (b"", b"0")


def verdict_on(status: int) -> Verdict:
    """What an upstream's own answer says about the upstream. A client's mistake says nothing against it."""
    if status >= 500 or status in _KEY_IS_WRONG:
        return Verdict.BAD
    return Verdict.ALIVE if status >= 400 else Verdict.GOOD


def credentials_are_wrong(status: int) -> bool:
    """Whether the answer says that our key is not good, whoever asked."""
    return status in _KEY_IS_WRONG


def retry_after_s(headers: Mapping[bytes, bytes], now_unix_s: float) -> float:
    """How long an answer asks to wait: retry-after-ms, then retry-after as seconds or a date; 0 when it does not."""
    wait_s = _number(headers.get(b"retry-after-ms", b"")) / 1000
    if wait_s > 0:
        return wait_s
    said = headers.get(b"retry-after", b"")
    wait_s = _number(said)
    if wait_s > 0 or not said:
        return max(0.0, wait_s)
    try:
        date = parsedate_to_datetime(said.decode("ascii"))
    except (ValueError, OverflowError):  # UnicodeDecodeError is a ValueError
        return 0.0
    return max(0.0, date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now_unix_s)


def _number(text: bytes) -> float:
    try:
        number = float(text)
    except ValueError:
        return 0.0
    return number if math.isfinite(number) else 0.0
