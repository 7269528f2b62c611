"""The old end of the audit chain: dropped up to an anchored entry, so that what is left can still be verified.

Nothing is changed in what stays: the head remembers the last dropped entry's number and hash, and the anchor of that
entry vouches for both, and for the entry's age: `audit verify` finds who dropped younger ones and moved the mark.
Without an anchor old enough, and as long as a legal hold wants an entry, nothing goes.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from luntrex_proxy.store import audit, subjects
from luntrex_proxy.store.anchors import Anchor
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.retention import turn

_BATCH_ROWS: Final = 5_000
# The first entry that stays: too young, or wanted by a hold.
_FIRST_KEPT: Final = """
SELECT min(sequence) FROM audit_entry
WHERE at >= $1 OR account_id = ANY($2::bigint[]) OR object_id = ANY($3::text[])
    OR split_part(actor, ':', 2) = ANY($3) OR split_part(actor, ':', 3) = ANY($3)
"""


async def cut(pool: Pool, line: datetime, anchors: Sequence[Anchor]) -> int:
    """Drop entries older than `line`, in whole batches that each end at an anchored entry; how many."""
    dropped = 0
    while True:
        with store_errors("drop old audit entries"):
            async with turn(pool) as connection:
                place = await _place(connection, line, anchors)
                if place is None:
                    return dropped
                dropped += await _cut(connection, place)


async def count(pool: Pool, line: datetime, anchors: Sequence[Anchor]) -> int:
    """How many entries `cut` would drop."""
    with store_errors("say what is old"):
        async with pool.acquire() as connection:
            place = await _place(connection, line, anchors, at_once=None)
            if place is None:
                return 0
            count: int = await connection.fetchval(
                "SELECT count(*) FROM audit_entry WHERE sequence <= $1", place.sequence
            )
            return count


async def _place(
    connection: Connection, line: datetime, anchors: Sequence[Anchor], at_once: int | None = _BATCH_ROWS
) -> Anchor | None:
    """The anchor up to which entries go now."""
    held = await subjects.held(connection)
    words = [*(str(each) for each in held.person_ids), *held.key_ids]
    first_kept = await connection.fetchval(_FIRST_KEPT, line, list(held.account_ids), words)
    (ends,) = await connection.fetch("SELECT sequence, kept_sequence FROM audit_head")
    # The newest entry always stays: what is next follows from it.
    last_old = min(ends["sequence"], first_kept or ends["sequence"]) - 1
    fitting = sorted(
        (each for each in anchors if ends["kept_sequence"] < each.sequence <= last_old and each.at < line),
        key=lambda anchor: anchor.sequence,
    )
    for anchor in reversed(fitting if at_once is None else _within(fitting, ends["kept_sequence"] + at_once)):
        if (
            await connection.fetchval("SELECT hash FROM audit_entry WHERE sequence = $1", anchor.sequence)
            == anchor.hash
        ):
            return anchor
    return None


def _within(fitting: list[Anchor], bound: int) -> list[Anchor]:
    """Those up to the bound, at least one."""
    return [anchor for anchor in fitting if anchor.sequence <= bound] or fitting[:1]


async def _cut(connection: Connection, anchor: Anchor) -> int:
    await connection.execute("ALTER TABLE audit_entry DISABLE TRIGGER audit_entry_append_only")
    await connection.execute("DELETE FROM audit_personal WHERE sequence <= $1", anchor.sequence)
    done = await connection.execute("DELETE FROM audit_entry WHERE sequence <= $1", anchor.sequence)
    await connection.execute("ALTER TABLE audit_entry ENABLE TRIGGER audit_entry_append_only")
    await connection.execute("UPDATE audit_head SET kept_sequence = $1, kept_hash = $2", anchor.sequence, anchor.hash)
    dropped = int(done.rpartition(" ")[2])
    await audit.record(connection, "audit.cut", str(anchor.sequence), facts={"entries": dropped})
    return dropped
