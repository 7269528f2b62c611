"""Lists in pieces: where one begins stands in the address."""

import contextlib
import uuid
from datetime import UTC, datetime
from typing import Final

_DIGITS_MAX: Final = 18
_EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)


def number_in(text: str) -> int:
    """A whole number of the address; 0 when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0


def moment_in(text: str) -> datetime | None:
    """A moment of the address, in UTC where it says nothing else; None when it is none that a row can be of."""
    with contextlib.suppress(ValueError):
        at = datetime.fromisoformat(text)
        found = at if at.tzinfo else at.replace(tzinfo=UTC)
        return found if _EARLIEST <= found <= _LATEST else None
    return None


def place_in(word: str) -> tuple[datetime, uuid.UUID] | None:
    """A place in a list by time and id, as the address has it: TIME~ID."""
    text, _, row_id = word.partition("~")
    at = moment_in(text)
    with contextlib.suppress(ValueError):
        return None if at is None else (at, uuid.UUID(row_id))
    return None
