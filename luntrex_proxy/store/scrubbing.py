"""Ids of who was erased in the files of the ledger: what waits in the quarantine, which no shipper may ever store.

Sound records keep their numbers and lose the link; in bytes that nobody can read the id is written over. Records still
in spool directories are unlinked when they are stored (unlinking.py), and their files go with that.
"""

import asyncio
import hashlib
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from luntrex_proxy.core.outcome import Record
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.frames import encode_record, frame_bytes, parse_frames
from luntrex_proxy.store.quarantine import QUARANTINE, replace_whole
from luntrex_proxy.store.segments import SUFFIX
from luntrex_proxy.store.state import file_errors
from luntrex_proxy.store.unlinking import ERASED, NO_ACCOUNT

_KEY_ID: Final = re.compile(rb"(?<![0-9A-Za-z])[0-9A-Za-z]{12}(?![0-9A-Za-z])")
_HOUR_US: Final = 3_600_000_000
_BELOW_VERSION: Final = (1 << 76) - 1  # of the bits of an id
_IsErased = Callable[[str, str], bool]  # kind, id


async def scrub_quarantine(pool: Pool, root: Path) -> int:
    """Take the ids of everybody with a tombstone out of the quarantine below `root`; how many files were changed."""
    with store_errors("say who was erased"):
        installation = str(await pool.fetchval("SELECT installation_id FROM installation"))
        hashes = {row[0] for row in await pool.fetch("SELECT subject_hash FROM tombstone")}
    if not hashes:
        return 0

    def is_erased(kind: str, of: str) -> bool:
        return hashlib.sha256(f"{installation}|{kind}|{of}".encode()).digest() in hashes

    return await asyncio.to_thread(_scrub, root, is_erased)


def _scrub(root: Path, is_erased: _IsErased) -> int:
    changed = 0
    with file_errors(root):
        for path in sorted((root / QUARANTINE).glob(f"*{SUFFIX}")):
            data = path.read_bytes()
            if any(is_erased("key", found.decode()) for found in set(_KEY_ID.findall(data))):
                replace_whole(path, _scrubbed(data, is_erased))
                changed += 1
    return changed


def _scrubbed(data: bytes, is_erased: _IsErased) -> bytes:
    frames, after, _ = parse_frames(data)
    sound = []
    for frame in frames:
        record = frame.record
        sound.append(frame_bytes(frame.payload if record is None else encode_record(_unlinked(record, is_erased))))
    return b"".join(sound) + _KEY_ID.sub(
        lambda found: b"x" * 12 if is_erased("key", found[0].decode()) else found[0], data[after:]
    )


def _unlinked(record: Record, is_erased: _IsErased) -> Record:
    if not is_erased("key", record.key_id):
        return record
    hour_us = record.started_us - record.started_us % _HOUR_US
    random = uuid.uuid4().int & _BELOW_VERSION
    return replace(
        record,
        key_id=ERASED,
        request_id=str(
            uuid.UUID(int=hour_us // 1_000 << 80 | 7 << 76 | random)
        ),  # of version 7, as unlinking.py has it
        account_id=NO_ACCOUNT if is_erased("account", str(record.account_id)) else record.account_id,
        started_us=hour_us,
    )
