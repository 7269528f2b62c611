"""The table `usage_limit`: how much accounts and keys may ask for. Changed, listed, and read by who keeps to it."""

import datetime
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from luntrex_proxy.core.audit import Fact
from luntrex_proxy.core.limits import WHATS, Amounts, BadLimitError, Terms, check_terms
from luntrex_proxy.store import accounts, audit
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import refuse_no_id, unknown_key
from luntrex_proxy.store.limitlevels import STREAMS_LAST_S

_BATCH_ROWS: Final = 500
_LIST: Final = """
SELECT l.account_id, a.name AS account, l.key_id, k.name AS key_name, l.limits, l.when_away, l.changed_at
FROM usage_limit l JOIN account a USING (account_id) LEFT JOIN api_key k USING (key_id)
WHERE l.limits <> '{}' AND ($1::bigint IS NULL OR l.account_id = $1) ORDER BY a.name, k.created_at NULLS FIRST, l.key_id
"""
# What all processes told of: it fills up again as time goes by; of streams those that run.
_USED: Final = f"""
SELECT l.key_id, v.model, v.word, ceil(greatest(0, v.level - v.rate * extract(epoch FROM now() - v.last_at)))::bigint
    AS used FROM usage_limit l JOIN limit_level v USING (limit_id) WHERE l.account_id = $1
UNION ALL
SELECT l.key_id, s.model, 'streams', sum(s.count)::bigint FROM usage_limit l JOIN limit_streams s USING (limit_id)
    WHERE l.account_id = $1 AND s.last_at > now() - interval '{STREAMS_LAST_S} seconds' GROUP BY 1, 2
"""  # noqa: S608 -- constants
_PUT: Final = """
INSERT INTO usage_limit AS l (account_id, key_id, limits, version, when_away)
VALUES ($1, $2, $3, $4, coalesce($5, 'open'))
ON CONFLICT (account_id, coalesce(key_id, '')) DO UPDATE
SET limits = excluded.limits, version = excluded.version, changed_at = now(),
    when_away = CASE WHEN excluded.limits = '{}' THEN 'open' ELSE coalesce($5, l.when_away) END
"""
Used = Mapping[tuple[str | None, str, str], int]  # by key (None: the account's), model ("": any) and word of WHATS
_read: Final = msgspec.json.Decoder(dict[str, dict[str, int]])
_write: Final = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True)
class Limited:
    """An account (`key_id` None) or a key, and its limits by model; "" is any."""

    account_id: int
    account: str
    key_id: str | None
    key_name: str | None
    limits: Terms
    when_away: str  # open or closed: whether requests are let in while nobody can say what others use
    changed_at: datetime.datetime


async def list_all(pool: Pool, account_id: int | None = None) -> list[Limited]:
    """All limits, or those of one account and its keys: by account, itself first."""
    with store_errors("list the limits"):
        rows = await pool.fetch(_LIST, account_id)
    return [Limited(**{**row, "limits": read_terms(row["limits"])}) for row in rows]


async def used(pool: Pool, account_id: int) -> Used:
    """What is used now of the limits of an account and its keys, as far as processes told of it."""
    with store_errors("say what is used of the limits"):
        rows = await pool.fetch(_USED, account_id)
    return {(row["key_id"], row["model"], row["word"]): row["used"] for row in rows}


async def of_account(
    pool: Pool,
    account: str,
    model: str,
    amounts: Amounts,
    *,
    cleared: Iterable[str] | None = (),
    when_away: str | None = None,
) -> Terms:
    """Set limits of an account for a model ("": any), first taking away those `cleared` (None: all); what holds then.

    `when_away`: of all its limits (core/limits.py); None: as it is. RefusedError: there is no such account, or they
    cannot be its limits.
    """
    if accounts.NAME.fullmatch(account) is None:
        raise accounts.unknown(account)
    with store_errors("change the limits"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            account_id = await connection.fetchval("SELECT account_id FROM account WHERE name = $1", account)
            if account_id is None:
                raise accounts.unknown(account)
            return await _change(connection, version, account_id, None, _Change(model, amounts, cleared, when_away))


async def of_key(
    pool: Pool,
    key_id: str,
    model: str,
    amounts: Amounts,
    *,
    cleared: Iterable[str] | None = (),
    when_away: str | None = None,
) -> Terms:
    """The same for a key. RefusedError as well: it has ended."""
    refuse_no_id(key_id)
    with store_errors("change the limits"):
        async with pool.acquire() as connection, connection.transaction():
            version = await next_version(connection)
            row = await connection.fetchrow("SELECT account_id, status FROM api_key WHERE key_id = $1", key_id)
            if row is None:
                raise unknown_key(key_id)
            if row["status"] == "revoked":
                raise RefusedError(f"The key {key_id} has ended; there is nothing to limit any more.", "key_ended")
            change = _Change(model, amounts, cleared, when_away)
            return await _change(connection, version, row["account_id"], key_id, change)


async def have_of_account(pool: Pool, account: str, terms: Terms) -> None:
    """Have exactly these limits of an account. RefusedError as above."""
    for model in [*_gone(await list_all(pool, (await accounts.get(pool, account)).account_id), None, terms), *terms]:
        await of_account(pool, account, model, terms.get(model, {}), cleared=None)


async def have_of_key(pool: Pool, key_id: str, terms: Terms) -> None:
    """Have exactly these limits of a key. RefusedError as above."""
    for model in [*_gone(await list_all(pool), key_id, terms), *terms]:
        await of_key(pool, key_id, model, terms.get(model, {}), cleared=None)


def _gone(found: list[Limited], key_id: str | None, terms: Terms) -> list[str]:
    return [model for each in found if each.key_id == key_id for model in each.limits if model not in terms]


@dataclass(frozen=True, slots=True)
class _Change:
    model: str
    amounts: Amounts
    cleared: Iterable[str] | None
    when_away: str | None

    def of(self, terms: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
        """The limits after the change. RefusedError: they cannot be."""
        cleared = WHATS.keys() if self.cleared is None else set(self.cleared)
        amounts = {word: n for word, n in terms.get(self.model, {}).items() if word not in cleared} | dict(self.amounts)
        changed = {model: dict(each) for model, each in terms.items() if model != self.model}
        if amounts:
            changed[self.model] = amounts
        try:
            check_terms(changed)
        except BadLimitError as error:
            raise RefusedError(str(error), "bad_limits") from None
        return changed


async def _change(connection: Connection, version: int, account_id: int, key_id: str | None, change: _Change) -> Terms:
    before = await connection.fetchval(
        "SELECT limits FROM usage_limit WHERE account_id = $1 AND key_id IS NOT DISTINCT FROM $2", account_id, key_id
    )
    terms = change.of({} if before is None else read_terms(before))
    await connection.execute(_PUT, account_id, key_id, _write(terms).decode(), version, change.when_away)
    facts: dict[str, Fact] = {"model": change.model, **terms.get(change.model, {})}
    if change.when_away is not None:
        facts["when_away"] = change.when_away
    await audit.record(connection, "limits.changed", key_id or str(account_id), account_id, facts)
    return terms


def read_terms(text: str) -> dict[str, dict[str, int]]:
    """What a row says."""
    return _read.decode(text)


async def changed(connection: Connection, since: int) -> AsyncIterator[list[tuple[int, str | None, str, bool]]]:
    """(account id, key id, limits, whether open) of the rows that changed after a version, in batches; -1: all."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(
            "SELECT account_id, key_id, limits, when_away = 'open' AS is_open FROM usage_limit"
            " WHERE version > $1 ORDER BY version",
            since,
        )
        while rows := await cursor.fetch(_BATCH_ROWS):
            yield [(row["account_id"], row["key_id"], row["limits"], row["is_open"]) for row in rows]
