"""What is left of limits, as response headers of a dialect (wire formats 1.6, 2.4).

Each dialect names one limit on requests and one on tokens: of several the one that was met, else the one of which the
least is left.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache

from luntrex_proxy.core.buckets import Bucket, Room
from luntrex_proxy.core.call import OPENAI, Dialect

_FORMS = {
    (Dialect.OPENAI, unit): (
        b"x-ratelimit-limit-%b: %%d\r\nx-ratelimit-remaining-%b: %%d\r\nx-ratelimit-reset-%b: %%b\r\n" % ((unit,) * 3)
    )
    for unit in (b"requests", b"tokens")
} | {
    (Dialect.ANTHROPIC, unit): (
        b"anthropic-ratelimit-%b-limit: %%d\r\nanthropic-ratelimit-%b-remaining: %%d\r\n"
        b"anthropic-ratelimit-%b-reset: %%b\r\n" % ((unit,) * 3)
    )
    for unit in (b"requests", b"tokens")
}
_END_S = datetime.max.replace(tzinfo=UTC).timestamp() - 1
_BOTH = {dialect: _FORMS[dialect, b"requests"] + _FORMS[dialect, b"tokens"] for dialect in Dialect}


def room_headers(dialect: Dialect, room: Room, now_s: float) -> bytes:
    """Of a request that was just let in, at unix time `now_s` (which OpenAI's do not name): complete header lines."""
    requests, tokens = room.requests, room.tokens
    if dialect is OPENAI and requests is not None and tokens is not None:
        # Of text: it takes half the time that it takes of bytes.
        return (
            f"x-ratelimit-limit-requests: {requests.amount}\r\nx-ratelimit-remaining-requests: {room.requests_left}\r\n"
            f"x-ratelimit-reset-requests: {_wait(requests)}\r\nx-ratelimit-limit-tokens: {tokens.amount}\r\n"
            f"x-ratelimit-remaining-tokens: {room.tokens_left}\r\nx-ratelimit-reset-tokens: {_wait(tokens)}\r\n"
        ).encode()
    if requests is None:
        return b"" if tokens is None else _lines(dialect, b"tokens", tokens, room.tokens_left, now_s)
    if tokens is None:
        return _lines(dialect, b"requests", requests, room.requests_left, now_s)
    return _BOTH[dialect] % (
        requests.amount, room.requests_left, _reset(dialect, requests, now_s),
        tokens.amount, room.tokens_left, _reset(dialect, tokens, now_s),
    )  # fmt: skip


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
    return b"".join(_lines(dialect, unit.encode(), bucket, left, now_s) for unit, (left, bucket) in least.items())


def _lines(dialect: Dialect, unit: bytes, bucket: Bucket, left: int, now_s: float) -> bytes:
    return _FORMS[dialect, unit] % (bucket.amount, left, _reset(dialect, bucket, now_s))


def _reset(dialect: Dialect, bucket: Bucket, now_s: float) -> bytes:
    """When a bucket is full again that is filled up to now, if what is held turns out to be used."""
    if dialect is OPENAI:
        return _wait(bucket).encode()
    return rfc3339(now_s + -(-_missing(bucket) // bucket.amount) / 1e9).encode()


def _wait(bucket: Bucket) -> str:
    """The same as a duration."""
    missing = _missing(bucket) if bucket.held else bucket.level
    if missing <= bucket.amount_ms:
        return "1ms" if missing else "0s"
    return go_duration(-(-missing // bucket.amount))


def _missing(bucket: Bucket) -> int:
    """What has to fill up, in units times its period."""
    held, amount = bucket.held, bucket.amount
    return bucket.level + (held if held < amount else amount) * bucket.period_ns


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
