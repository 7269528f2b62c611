"""What is left of limits, as response headers of a dialect (wire formats 1.6, 2.4).

Each dialect names one limit on requests and one on tokens: of several the one that was met, else the one of which the
least is left.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from luntrex_proxy.core.buckets import Bucket
from luntrex_proxy.core.call import Dialect

_FORMS = {
    (Dialect.OPENAI, unit): (
        f"x-ratelimit-limit-{unit}: %d\r\nx-ratelimit-remaining-{unit}: %d\r\nx-ratelimit-reset-{unit}: %s\r\n"
    )
    for unit in ("requests", "tokens")
} | {
    (Dialect.ANTHROPIC, unit): (
        f"anthropic-ratelimit-{unit}-limit: %d\r\nanthropic-ratelimit-{unit}-remaining: %d\r\n"
        f"anthropic-ratelimit-{unit}-reset: %s\r\n"
    )
    for unit in ("requests", "tokens")
}


def rate_limit_headers(
    dialect: Dialect, buckets: Iterable[Bucket], now_ns: int, now_s: float, met: Bucket | None = None
) -> bytes:
    """Complete header lines; `now_ns` is the time of the buckets' clock, `now_s` unix time."""
    least: dict[str, tuple[int, Bucket]] = {}
    for bucket in buckets:
        unit = bucket.unit
        if unit != "streams":
            remaining = bucket.remaining(now_ns)
            if unit not in least or bucket is met or (least[unit][1] is not met and remaining < least[unit][0]):
                least[unit] = remaining, bucket
    lines = ""
    for unit, (remaining, bucket) in least.items():
        reset_ns = bucket.reset_ns(now_ns)
        reset = go_duration(reset_ns) if dialect is Dialect.OPENAI else rfc3339(now_s + reset_ns / 1e9)
        lines += _FORMS[dialect, unit] % (bucket.amount, remaining, reset)
    return lines.encode()


def go_duration(duration_ns: int) -> str:
    """A duration as Go writes it, to the millisecond, rounded up: 12ms, 1.2s, 6m0s, 1h0m0s."""
    ms = -(-duration_ns // 1_000_000)
    if ms < 1_000:
        return f"{ms}ms" if ms else "0s"
    seconds, ms = divmod(ms, 1_000)
    fraction = f".{ms:03d}".rstrip("0") if ms else ""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}{fraction}s"
    return f"{minutes}m{seconds}{fraction}s" if minutes else f"{seconds}{fraction}s"


def rfc3339(unix_s: float) -> str:
    """A time in UTC, to the second, rounded up; the last one there is for what lies beyond."""
    try:
        moment = datetime.fromtimestamp(-(-unix_s // 1), UTC)
    except (ValueError, OverflowError, OSError):
        moment = datetime.max.replace(tzinfo=UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
