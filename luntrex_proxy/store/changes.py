"""The order of changes to keys and accounts: one version per change, announced at commit. No table of theirs here."""

from typing import Final

from luntrex_proxy.store.database import Connection

CHANNEL: Final = "luntrex_changes"


async def next_version(connection: Connection) -> int:
    """Take the next version and announce it at commit. Call it first in the transaction.

    The updated row stays locked until then, so versions become visible in their order and a reader that has seen N has
    seen everything before N.
    """
    version: int = await connection.fetchval("UPDATE change_version SET version = version + 1 RETURNING version")
    await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, str(version))
    return version


async def hold_changes(connection: Connection) -> None:
    """Let nobody else change keys, accounts or members until the transaction ends. Call it first; changes nothing."""
    await connection.execute("SELECT version FROM change_version FOR UPDATE")
