"""Lists in pieces: where one begins stands in the address."""

import contextlib
import uuid
from datetime import UTC, datetime
from typing import Final

_DIGITS_MAX: Final = 18


def number_in(text: str) -> int:
    """A whole number of the address; 0 when it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX else 0


def place_in(word: str) -> tuple[datetime, uuid.UUID] | None:
    """A place in a list by time and id, as the address has it: TIME~ID."""
    at, _, row_id = word.partition("~")
    with contextlib.suppress(ValueError):
        found = datetime.fromisoformat(at)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)), uuid.UUID(row_id)
    return None
