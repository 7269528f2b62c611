"""Spool directories that dead processes left: who may take them, and what becomes of requests they never settled.

Nothing here writes to a spool or the database. `Shipper` stores an adopted directory like its own; at its end the
openings without a settle become `interrupted` outcomes in the transaction that closes the directory for ever. Each
step leaves a state the next recovery understands: rows are keyed, positions only advance, a closed directory is only
removed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from luntrex_proxy.core.outcome import ENDING_WORDS, USAGE_WORDS, Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.store.frames import Frame
from luntrex_proxy.store.segments import SpoolDirectory, directories


class Waiting(NamedTuple):
    """An opening whose settle was not met yet, and where its frame lies."""

    opening: Opening
    segment: int
    start: int
    end: int


def adopt_dead(root: Path, own: UUID | None) -> tuple[list[SpoolDirectory], int]:
    """Lock every spool directory whose process is gone; also how many this user may not open.

    Empty ones are removed on the way.
    """
    adopted, unreadable = [], 0
    for path in directories(root):
        try:
            directory = None if path.name == str(own) else SpoolDirectory.adopt(path)
            if directory is not None and directory.segments():
                adopted.append(directory)
            elif directory is not None:
                directory.remove()
        except OSError:
            unreadable += 1
    return adopted, unreadable


def follow_openings(waiting: dict[str, Waiting], segment: int, frames: Iterable[Frame]) -> None:
    """Bring the openings without a settle up to date with frames read in order. Reading them again is harmless."""
    for frame in frames:
        record = frame.record
        if isinstance(record, Opening):
            waiting[record.request_id] = Waiting(record, segment, frame.start, frame.end)
        elif record is not None:
            waiting.pop(record.request_id, None)


def interrupted(opening: Opening) -> Outcome:
    """The outcome of a request whose process died before it was settled; the same one at every recovery."""
    return Outcome(
        request_id=opening.request_id,
        started_us=opening.started_us,
        account_id=opening.account_id,
        key_id=opening.key_id,
        route=opening.route,
        model=opening.model,
        upstream=opening.upstream,
        status=0,
        code="interrupted",
        ending=ENDING_WORDS[Ending.INTERRUPTED],
        streamed=opening.streamed,
        usage_source=USAGE_WORDS[UsageSource.UNKNOWN],
        **Tokens().columns(),
        cost_pico=0,
        price_version="",
        request_bytes=opening.request_bytes,
        response_bytes=0,
        events=0,
        attempts=1,
        duration_us=0,
        first_byte_us=0,
        overhead_us=0,
    )
