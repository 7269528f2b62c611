"""What is left of limits, as response headers of a dialect (wire formats 1.6, 2.4).

Each dialect names one limit on requests and one on tokens: of several the one that was met, else the one of which the
least is left.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec

from luntrex_proxy.core.buckets import FRESH_NS, Bucket, Group
from luntrex_proxy.core.call import OPENAI, Dialect

_LINES: Final = ("limit", "remaining", "reset")
_OPENAI: Final = {unit: tuple(f"x-ratelimit-{line}-{unit}: " for line in _LINES) for unit in ("requests", "tokens")}
_ANTHROPIC: Final = {
    unit: tuple(f"anthropic-ratelimit-{unit}-{line}: " for line in _LINES) for unit in ("requests", "tokens")
}
_END_S: Final = datetime.max.replace(tzinfo=UTC).timestamp() - 1


class _Said(msgspec.Struct):
    """What stands around the numbers of what is left, for as long as no less is left than these floors."""

    dialect: Dialect
    requests: Bucket
    requests_floor: int
    tokens: Bucket
    tokens_floor: int
    before: str
    between: str
    after: str


def room_headers(dialect: Dialect, group: Group, now_s: float) -> bytes:
    """Of a request that was just let in, at unix time `now_s` (which OpenAI's do not name): complete header lines.

    What is left is what this request leaves; when it is full again is true to FRESH_NS.
    """
    said: _Said | None = group.said
    if said is None or said.dialect is not dialect:
        return _say(dialect, group, now_s)
    requests_left, tokens_left = said.requests.room, said.tokens.room
    if requests_left < said.requests_floor or tokens_left < said.tokens_floor:
        return _say(dialect, group, now_s)
    # Of text: it takes half the time that it takes of bytes.
    return f"{said.before}{requests_left}{said.between}{tokens_left}{said.after}".encode()


def _say(dialect: Dialect, group: Group, now_s: float) -> bytes:
    """The same, and remember what stands around the numbers where both are named."""
    requests, tokens = group.requests, group.tokens
    if requests is None or tokens is None:
        one = tokens if requests is None else requests
        return b"" if one is None else _lines(dialect, one, one.room, now_s)
    before, between = _around(dialect, requests, now_s)
    more, after = _around(dialect, tokens, now_s)
    between += more
    group.said = _Said(dialect, requests, _floor(requests), tokens, _floor(tokens), before, between, after)
    return f"{before}{max(0, requests.room)}{between}{max(0, tokens.room)}{after}".encode()


def _floor(bucket: Bucket) -> int:
    """From there on it is full again FRESH_NS later, or what is left is no number to say."""
    return max(0, bucket.room - bucket.amount * FRESH_NS // bucket.period_ns)


def rate_limit_headers(
    dialect: Dialect, buckets: Iterable[Bucket], now_ns: int, now_s: float, met: Bucket | None = None
) -> bytes:
    """The same of any buckets; `now_ns` is the time of their clock."""
    least: dict[str, tuple[int, Bucket]] = {}
    for bucket in buckets:
        unit = bucket.unit
        if unit != "streams":
            remaining = bucket.remaining(now_ns)
            if unit not in least or bucket is met or (least[unit][1] is not met and remaining < least[unit][0]):
                least[unit] = remaining, bucket
    return b"".join(_lines(dialect, bucket, left, now_s) for left, bucket in least.values())


def _lines(dialect: Dialect, bucket: Bucket, left: int, now_s: float) -> bytes:
    before, after = _around(dialect, bucket, now_s)
    return f"{before}{max(0, left)}{after}".encode()


def _around(dialect: Dialect, bucket: Bucket, now_s: float) -> tuple[str, str]:
    """The lines of one limit, before and after the number of what is left."""
    reset_ns = bucket.reset_ns()
    if dialect is OPENAI:
        names, full = _OPENAI, go_duration(reset_ns)
    else:
        names, full = _ANTHROPIC, rfc3339(now_s + reset_ns / 1e9)
    limit, remaining, reset = names[bucket.unit]
    return f"{limit}{bucket.amount}\r\n{remaining}", f"\r\n{reset}{full}\r\n"


def go_duration(duration_ns: int) -> str:
    """A duration as Go writes it, to the millisecond, rounded up: 12ms, 1.2s, 6m0s, 1h0m0s."""
    ms = -(-duration_ns // 1_000_000)
    if ms < 1_000:
        return f"{ms}ms" if ms else "0s"
    seconds, ms = divmod(ms, 1_000)
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    if seconds < 60:
        return f"{seconds}{fraction}s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes}m{seconds}{fraction}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{seconds}{fraction}s"


def rfc3339(unix_s: float) -> str:
    """A time in UTC, to the second, rounded up; the last one there is for what lies beyond."""
    if unix_s >= _END_S:
        return "9999-12-31T23:59:59Z"
    minute, second = divmod(int(-(-unix_s // 1)), 60)
    return f"{_minute(minute)}:{second:02d}Z"


@lru_cache(maxsize=1024)
def _minute(minute: int) -> str:
    """Most answers name a minute that others named before."""
    return f"{datetime.fromtimestamp(minute * 60, UTC):%Y-%m-%dT%H:%M}"
