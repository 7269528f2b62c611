"""How numbers, money and times read on pages: filters of the templates. Pure; units stand beside every number."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from markupsafe import Markup

from luntrex_proxy.control.spans import zone_of

_PICO_PER_MICRO: Final = 1_000_000
_MICROS_PER_DOLLAR: Final = 1_000_000
_MICROS_PER_CENT: Final = 10_000
_SIZES: Final = ((10**9, "bn"), (10**6, "M"))
_SPANS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def money(pico: int) -> str:
    """Pico-dollars as dollars: cents, and below ten cents down to the millionth that is not nothing."""
    sign, size = ("-" if pico < 0 else ""), abs(pico)
    micros = (size + _PICO_PER_MICRO // 2) // _PICO_PER_MICRO
    if size and not micros:
        return f"{sign}<$0.000001"
    if not micros or micros >= 10 * _MICROS_PER_CENT:
        cents = (micros + _MICROS_PER_CENT // 2) // _MICROS_PER_CENT
        return f"{sign}${cents // 100:,}.{cents % 100:02d}"
    digits = f"{micros % _MICROS_PER_DOLLAR:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}$0.{digits}"


def price(pico_per_token: int) -> str:
    """A price as dollars for a million tokens: exact, with two digits after the point or as many as it has."""
    whole, micros = divmod(pico_per_token, _MICROS_PER_DOLLAR)
    return f"${whole:,}.{f'{micros:06d}'.rstrip('0').ljust(2, '0')}"


def count(number: int) -> str:
    """A number with its thousands apart."""
    return f"{number:,}"


def compact(number: int) -> str:
    """A large number, roughly: thousands, millions, billions."""
    for size, unit in _SIZES:
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return count(number)


def milliseconds(number: float | None) -> str:
    """A time in milliseconds, from a second on in seconds."""
    if number is None:
        return "n/a"
    return f"{number / 1000:.2f} s" if number >= 1_000 else f"{number:.0f} ms"


def percent(part: int, whole: int) -> str:
    """A part of a whole."""
    if not whole:
        return "n/a"
    share = 100 * part / whole
    return f"{share:.2f} %" if 0 < share < 1 else f"{share:.1f} %"


def moment(at: datetime, zone: str = "UTC") -> Markup:
    """A moment to the minute, with the name of its zone."""
    local = at.astimezone(zone_of(zone))
    return Markup('<time datetime="{}">{} {}</time>').format(
        at.astimezone(UTC).isoformat(timespec="seconds"), local.strftime("%Y-%m-%d %H:%M"), local.strftime("%Z")
    )


def as_text(word: str) -> str:
    """A word for a CSV that no table program takes for a formula."""
    return f"'{word}" if word.startswith(("=", "+", "-", "@", "\t", "\r")) else word


def ago(at: datetime, now: datetime) -> str:
    """How long ago, roughly."""
    passed = (now - at) // timedelta(seconds=1)
    for seconds, word in _SPANS:
        if passed >= seconds:
            number = passed // seconds
            return f"{number} {word}{'' if number == 1 else 's'} ago"
    return "just now"


def due(at: datetime, now: datetime) -> str:
    """How long until something has to be done, or since when it should have been, roughly."""
    left = abs(at - now) // timedelta(seconds=1)
    # Clocks of 72 hours are told in hours to their end.
    fitting = ((size, word) for size, word in _SPANS if left >= (4 if word == "day" else 2) * size)
    seconds, word = next(fitting, _SPANS[-1])
    number = left // seconds
    words = f"{number} {word}{'' if number == 1 else 's'}"
    return f"due in {words}" if at > now else f"overdue by {words}"


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "money": money,
    "price": price,
    "count": count,
    "compact": compact,
    "milliseconds": milliseconds,
    "percent": percent,
    "moment": moment,
    "ago": ago,
    "due": due,
}
