"""The table `webhook_message`: queued in the transaction of what they tell of, claimed by one sender at a time.

A sender that dies leaves its claim to run out, and then the message is sent again: its id is the same.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec

from luntrex_proxy.store.database import Connection, Pool, store_errors

_CLAIM: Final = timedelta(minutes=1)  # much longer than one try may take
_GIVEN_UP_AFTER: Final = timedelta(days=1)
_LONGEST_WAIT_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Message:
    """A claimed message."""

    message_id: uuid.UUID
    body: str
    tries: int  # this one included


async def enqueue(connection: Connection, body: dict[str, Any]) -> None:
    """Queue a message in the caller's transaction."""
    text = msgspec.json.encode(body).decode()
    await connection.execute("INSERT INTO webhook_message (body) VALUES ($1)", text)


async def claim(pool: Pool) -> Message | None:
    """The next message that is due, for this sender alone; None: there is none."""
    with store_errors("give a message for the webhook"):
        row = await pool.fetchrow(
            "UPDATE webhook_message SET due_at = now() + $1::interval, tries = tries + 1 WHERE message_id ="
            " (SELECT message_id FROM webhook_message WHERE ended_at IS NULL AND due_at <= now()"
            " ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING message_id, body, tries",
            _CLAIM,
        )
    return None if row is None else Message(row["message_id"], row["body"], row["tries"])


async def delivered(pool: Pool, message: Message) -> None:
    """It was taken."""
    with store_errors("note that a message was taken"):
        await pool.execute(
            "UPDATE webhook_message SET ended_at = now(), outcome = 'delivered', last_error = NULL"
            " WHERE message_id = $1",
            message.message_id,
        )


async def failed(pool: Pool, message: Message, reason: str) -> bool:
    """It was not taken: try later, twice as late each time, for a day; whether there will be another try."""
    wait = timedelta(seconds=min(5.0 * 2 ** (message.tries - 1), _LONGEST_WAIT_S))
    with store_errors("note that a message was not taken"):
        ended = await pool.fetchval(
            "UPDATE webhook_message SET last_error = $2, due_at = now() + $3::interval * (0.5 + random()),"
            " ended_at = CASE WHEN queued_at < now() - $4::interval THEN now() END,"
            " outcome = CASE WHEN queued_at < now() - $4::interval THEN 'given_up' END"
            " WHERE message_id = $1 RETURNING ended_at IS NOT NULL",
            message.message_id,
            reason,
            wait,
            _GIVEN_UP_AFTER,
        )
    return not ended
