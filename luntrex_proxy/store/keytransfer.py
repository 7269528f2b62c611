"""Keys from one installation to another, as JSON lines that hold no key: ids, names, terms and bcrypt hashes.

A key taken over has no lookup hash, since that is another pepper's; `proving.py` tells it at its first use.
"""

import datetime
from collections.abc import Sequence
from typing import Annotated, Final

import asyncpg
import msgspec

from luntrex_proxy.core.scope import BadScopeError, read_scope
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import Proof, Terms, account_for_a_key, insert, refuse_bad_times, refuse_taken_name

_COST_MAX: Final = 12  # more would hold up everybody's first use; it is bcrypt's exponent
_EXPORT: Final = """
SELECT k.key_id AS id, a.name AS account, k.name, k.bcrypt_hash, k.not_before, k.expires_at,
       coalesce(k.endpoints, '{}') AS endpoints, coalesce(k.models, '{}') AS models,
       coalesce(k.regions, '{}') AS regions, coalesce(k.networks::text[], '{}') AS networks
FROM api_key k JOIN account a USING (account_id)
WHERE k.status = 'active' AND (k.expires_at IS NULL OR k.expires_at > now()) AND ($1::text IS NULL OR a.name = $1)
  AND NOT EXISTS (SELECT FROM api_key s WHERE s.rotated_from = k.key_id AND s.status <> 'revoked')
ORDER BY a.name, k.name
"""


class _Line(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: Annotated[str, msgspec.Meta(pattern="^[0-9A-Za-z]{12}$")]
    account: str
    name: str
    bcrypt_hash: Annotated[str, msgspec.Meta(pattern=r"^\$2b\$[0-9]{2}\$[./0-9A-Za-z]{53}$")]
    not_before: datetime.datetime | None = None
    expires_at: datetime.datetime | None = None
    endpoints: list[str] = []
    models: list[str] = []
    regions: list[str] = []
    networks: list[str] = []

    def terms(self) -> Terms:
        """When the key may be used, and for what. Raises BadScopeError."""
        scope = read_scope(self.endpoints, self.models, self.regions, self.networks)
        return Terms(_aware(self.not_before), _aware(self.expires_at), scope)


async def export_lines(pool: Pool, account: str | None = None) -> list[str]:
    """One line for each key that works and is not replaced."""
    with store_errors("list the keys"):
        rows = await pool.fetch(_EXPORT, account)
    return [msgspec.json.encode(_Line(**dict(row))).decode() for row in rows]


async def import_lines(pool: Pool, lines: Sequence[bytes], account: str | None = None) -> int:
    """Take over the keys of these lines, all or none; how many. RefusedError names the line that is at fault."""
    taken = 0
    with store_errors("take over keys"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            for number, text in enumerate(lines, 1):
                if text.strip():
                    try:
                        await _take_over(connection, _read(text), account, version)
                    except (RefusedError, BadScopeError) as error:
                        raise RefusedError(f"Line {number}: {error} Nothing was taken over.") from None
                    taken += 1
    return taken


def _read(text: bytes) -> _Line:
    try:
        line = msgspec.json.decode(text, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        # Never the decoder's words: they may quote what is there, and somebody may have put a whole key there.
        raise RefusedError("this is no line of `luntrex-proxy keys export`.") from None
    if int(line.bcrypt_hash[4:6]) > _COST_MAX:
        raise RefusedError(f"its bcrypt cost is above {_COST_MAX}; make a new key instead.")
    return line


async def _take_over(connection: Connection, line: _Line, account: str | None, version: int) -> None:
    account_id = await account_for_a_key(connection, account or line.account)
    terms = line.terms()
    await refuse_bad_times(connection, terms)
    await refuse_taken_name(connection, account_id, line.name)
    try:
        await insert(connection, Proof(line.id, line.bcrypt_hash), account_id, line.name, version, terms)
    except asyncpg.UniqueViolationError:
        raise RefusedError(f"there is a key of the id {line.id} here already.") from None


def _aware(time: datetime.datetime | None) -> datetime.datetime | None:
    return time.replace(tzinfo=datetime.UTC) if time is not None and time.tzinfo is None else time
