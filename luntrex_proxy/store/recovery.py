"""Spool directories that dead processes left: who may take them, and what becomes of requests they never settled.

Nothing here writes to the database. `Shipper` stores an adopted directory like its own; at its end the
openings without a settle become `interrupted` outcomes in the transaction that closes the directory for ever. Each
step leaves a state the next recovery understands: rows are keyed, positions only advance, a closed directory is only
removed.
"""

from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from luntrex_proxy.core.outcome import ENDING_WORDS, USAGE_WORDS, Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.store.frames import Frame, encode_record, request_id
from luntrex_proxy.store.segments import Chunk, SpoolDirectory, directories


class Adopted(NamedTuple):
    """A locked directory of a dead process, its bytes, and when its first segment was written (unix time)."""

    directory: SpoolDirectory
    byte_count: int
    written_s: float


def adopt_dead(root: Path, own: UUID | None) -> tuple[list[Adopted], int]:
    """Lock every spool directory whose process is gone; also how many cannot be read.

    Empty ones are removed on the way. One that cannot be read is let go of, and keeps no other from being adopted.
    """
    adopted, unreadable = [], 0
    for path in directories(root):
        directory = None
        try:
            directory = None if path.name == str(own) else SpoolDirectory.adopt(path)
            if directory is not None and directory.segments():
                adopted.append(Adopted(directory, *directory.size_and_age()))
            elif directory is not None:
                directory.remove()
        except OSError:
            unreadable += 1
            if directory is not None:
                directory.unlock()
    return adopted, unreadable


def follow_openings(waiting: dict[bytes, Frame], chunk: Chunk) -> None:
    """Bring the openings without a settle up to date with a chunk read in order. Reading it again is harmless."""
    for frame in chunk.openings:
        waiting[request_id(frame)] = frame
    for frame in chunk.settles:
        waiting.pop(request_id(frame), None)


def closing_frame(opening: Frame) -> Frame:
    """The interrupted outcome in the place of its opening; what is no opening of ours stays, and will be refused."""
    record = opening.record
    return opening._replace(payload=encode_record(interrupted(record))) if isinstance(record, Opening) else opening


def interrupted(opening: Opening) -> Outcome:
    """The outcome of a request whose process died before it was settled; the same one at every recovery.

    Its upstream had the request, so its input counts; what came of the answer died with the process.
    """
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
        **Tokens(opening.input_tokens).columns(),
        cost_pico=opening.cost_pico,
        price_version=opening.price_version,
        request_bytes=opening.request_bytes,
        response_bytes=0,
        events=0,
        attempts=1,
        duration_us=0,
        first_byte_us=0,
        overhead_us=0,
        trail="",
    )
