"""Spool directories that dead processes left: who may take them, and what becomes of requests they never settled.

Nothing here writes to the database. `Shipper` stores an adopted directory like its own; at its end the
openings without a settle become `interrupted` outcomes in the transaction that closes the directory for ever. Each
step leaves a state the next recovery understands: rows are keyed, positions only advance, a closed directory is only
removed.
"""

from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

from luntrex_proxy.core.outcome import ENDING_WORDS, USAGE_WORDS, Ending, Opening, Outcome, Tokens, UsageSource
from luntrex_proxy.store.frames import Frame, encode_record, parse_frames
from luntrex_proxy.store.segments import QUARANTINE, SUFFIX, Chunk, SpoolDirectory, directories, sync_directory


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


def retry_quarantined(root: Path) -> tuple[int, int]:
    """Put records that were refused back, each as a dead directory; how many, and how many files stay.

    What stays was unreadable. A record that is refused again comes back into the quarantine.
    """
    retried, left = 0, 0
    for path in sorted((root / QUARANTINE).glob(f"*{SUFFIX}")):
        data = path.read_bytes()
        if parse_frames(data).after < len(data) or not data:
            left += 1
            continue
        directory = SpoolDirectory.create(root, uuid4())
        path.rename(directory.segment_path(1))
        sync_directory(directory.path)
        sync_directory(path.parent)
        directory.unlock()
        retried += 1
    return retried, left


def follow_openings(waiting: dict[bytes, Frame], chunk: Chunk) -> None:
    """Bring the openings without a settle up to date with a chunk read in order. Reading it again is harmless."""
    for frame in chunk.openings:
        waiting[_request_id(frame)] = frame
    for frame in chunk.settles:
        waiting.pop(_request_id(frame), None)


def closing_frame(opening: Frame) -> Frame:
    """The interrupted outcome in the place of its opening; what is no opening of ours stays, and will be refused."""
    record = opening.record
    return opening._replace(payload=encode_record(interrupted(record))) if isinstance(record, Opening) else opening


def _request_id(frame: Frame) -> bytes:
    """The first value of a record, not decoded."""
    return frame.payload.partition(b",")[2].partition(b",")[0]


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
