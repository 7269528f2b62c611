"""Limits in their table: set, cleared, refused in a sentence, audited, copied to successors, and followed in memory."""

import time

import pytest

from luntrex_proxy.core.buckets import LimitedError, take
from luntrex_proxy.core.scope import Scope
from luntrex_proxy.store import accounts, apikeys, audit, limits
from luntrex_proxy.store.changes import next_version
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.limiting import LimitBook
from tests.postgres import LOOKUP
from tests.store.keys import catch_up, loaded
from tests.store.silent import proxied
from tests.upstreams.loop_thread import LoopThread

ACCOUNT = 1
PROMISED_S = 5.0


async def make_key(pool: Pool, name: str = "first") -> str:
    """A key of the account; its id."""
    return (await apikeys.create(pool, LOOKUP, "acme", name, bcrypt_cost=4)).info.key_id


async def test_limits_are_set_added_and_cleared(acme: Pool) -> None:
    """What is not named stays; each model has its own; none are left at the end, and each act is on record."""
    key_id = await make_key(acme)
    await limits.of_account(acme, "acme", "", {"requests/minute": 60})
    assert await limits.of_account(acme, "acme", "", {"tokens/day": 9}) == {
        "": {"requests/minute": 60, "tokens/day": 9}
    }
    await limits.of_key(acme, key_id, "gpt-4*", {"streams": 2})
    listed = [(each.account, each.key_id, each.key_name, each.limits) for each in await limits.list_all(acme)]
    assert listed == [
        ("acme", None, None, {"": {"requests/minute": 60, "tokens/day": 9}}),
        ("acme", key_id, "first", {"gpt-4*": {"streams": 2}}),
    ]
    assert await limits.of_account(acme, "acme", "", {}, cleared=["tokens/day"]) == {"": {"requests/minute": 60}}
    assert await limits.of_account(acme, "acme", "", {"tokens/hour": 5}, cleared=None) == {"": {"tokens/hour": 5}}
    assert await limits.of_account(acme, "acme", "", {}, cleared=None) == {}
    assert await limits.of_key(acme, key_id, "gpt-4*", {}, cleared=None) == {}
    assert await limits.list_all(acme) == []
    newest = await audit.newest(acme, 7)
    assert [each.act for each in newest] == ["limits.changed"] * 7
    assert (newest[5].object_id, newest[5].facts) == ("1", {"model": "", "requests/minute": 60, "tokens/day": 9})


async def test_what_cannot_be_is_refused_and_changes_nothing(acme: Pool) -> None:
    """Contradictions with what is there already, models that there cannot be, keys and accounts that are not."""
    key_id = await make_key(acme)
    await limits.of_key(acme, key_id, "", {"requests/day": 5})
    for model, amounts, sentence in (
        ("", {"requests/minute": 6}, "requests/minute=6 can never be reached: requests/day is 5"),
        ("", {"tokens/day": 0}, "tokens/day is 1 to"),
        ("lx_x", {"streams": 1}, "is no model name"),
    ):
        with pytest.raises(RefusedError, match=sentence):
            await limits.of_key(acme, key_id, model, amounts)
    for model in range(63):
        await limits.of_key(acme, key_id, f"m{model}", {"streams": 1})
    with pytest.raises(RefusedError, match="At most 64 models"):
        await limits.of_key(acme, key_id, "another", {"streams": 1})
    with pytest.raises(RefusedError, match="There is no account"):
        await limits.of_account(acme, "no body", "", {"streams": 1})
    with pytest.raises(RefusedError, match="There is no account"):
        await limits.of_account(acme, "nobody", "", {"streams": 1})
    for given, sentence in (("A" * 12, "There is no key of this id"), ("lx_x", "That is a whole key")):
        with pytest.raises(RefusedError, match=sentence):
            await limits.of_key(acme, given, "", {"streams": 1})
    await apikeys.revoke(acme, key_id)
    with pytest.raises(RefusedError, match="has ended"):
        await limits.of_key(acme, key_id, "", {"streams": 1})
    (listed,) = await limits.list_all(acme)
    assert len(listed.limits) == 64
    assert listed.limits[""] == {"requests/day": 5}


async def test_a_key_takes_its_limits_along_when_it_is_rotated(acme: Pool) -> None:
    """Else who may rotate a key could shake them off."""
    key_id = await make_key(acme)
    await limits.of_key(acme, key_id, "", {"requests/day": 5})
    book = LimitBook(acme)
    await book.refresh()
    made = await apikeys.rotate(acme, LOOKUP, key_id, overlap_s=60, bcrypt_cost=4)
    await book.refresh()
    assert set(book.limits.terms) == {key_id, made.info.key_id}
    unlimited = await apikeys.rotate(acme, LOOKUP, await make_key(acme, "other"), overlap_s=0, bcrypt_cost=4)
    await book.refresh()
    assert unlimited.info.key_id not in book.limits.terms


async def test_a_process_follows_changes(acme: Pool) -> None:
    """It reads only what changed, what was used stays used, and what is taken away counts no more."""
    key_id = await make_key(acme)
    book = LimitBook(acme)
    await book.refresh()
    assert book.limits.terms == {}
    await limits.of_key(acme, key_id, "", {"requests/day": 2})
    await limits.of_account(acme, "acme", "", {"requests/day": 9})
    await book.refresh()
    now = time.perf_counter_ns()
    for _ in range(2):
        take(book.limits.applying(ACCOUNT, key_id, "m", now), 0, streamed=False, now_ns=now)
    with pytest.raises(LimitedError):
        take(book.limits.applying(ACCOUNT, key_id, "m", now), 0, streamed=False, now_ns=now)
    await limits.of_key(acme, key_id, "", {"requests/day": 3})
    await book.refresh()
    now = time.perf_counter_ns()
    assert [each.remaining(now) for each in book.limits.applying(ACCOUNT, key_id, "m", now).buckets] == [7, 1]
    await limits.of_key(acme, key_id, "", {}, cleared=None)
    await book.refresh()
    assert set(book.limits.terms) == {ACCOUNT}


async def test_a_restored_database_is_read_anew(acme: Pool) -> None:
    """Its versions are of before: what it does not say any more is gone, what it says counts."""
    other = (await accounts.create(acme, "other")).account_id
    await limits.of_account(acme, "acme", "", {"streams": 1})
    book = LimitBook(acme)
    await book.refresh()
    await acme.execute("UPDATE change_version SET version = 0")
    await acme.execute("DELETE FROM usage_limit")
    await acme.execute(
        "INSERT INTO usage_limit (account_id, limits, version) VALUES ($1, $2, 0)",
        other,
        '{"": {"streams": 4, "later/era": 1}}',
    )
    await book.refresh()
    assert book.limits.terms == {other: {"": {"streams": 4}}}, "a later release's kinds are not ours"


async def test_a_row_that_only_a_later_release_can_read_hides_no_other(acme: Pool) -> None:
    """Else a process of this one, beside or instead of it, would not start, or follow no change any more."""
    key_id = await make_key(acme)
    await acme.execute(
        "INSERT INTO usage_limit (account_id, limits, version) VALUES ($1, $2, 0)", ACCOUNT, '{"": {"streams": "few"}}'
    )
    await limits.of_key(acme, key_id, "", {"streams": 1})
    book = LimitBook(acme)
    await book.refresh()
    assert book.limits.terms == {key_id: {"": {"streams": 1}}}


async def test_a_key_that_is_erased_leaves_no_limit(acme: Pool) -> None:
    """Neither its own, nor one that would become the account's."""
    key_id = await make_key(acme)
    await limits.of_key(acme, key_id, "", {"streams": 1})
    await acme.execute("DELETE FROM api_key WHERE key_id = $1", key_id)
    assert await limits.list_all(acme) == []


async def test_a_restored_database_that_has_overtaken_us_is_read_anew(acme: Pool) -> None:
    """Its version says nothing: the ring knows by the audit log that what was known is undone."""
    await make_key(acme)
    await limits.of_account(acme, "acme", "", {"streams": 1})
    ring, book = await loaded(acme), LimitBook(acme)
    await book.refresh()
    async with acme.acquire() as connection, connection.transaction():  # an older backup, and an act since
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("DELETE FROM usage_limit; UPDATE audit_entry SET hash = sha256(hash)")
    await accounts.create(acme, "other")
    await accounts.suspend(acme, "other")
    seen = ring.seen
    await catch_up(ring, acme)
    assert ring.seen != seen
    await book.refresh(ring.seen.readings)
    assert book.limits.terms == {}


async def test_a_successor_that_an_earlier_release_makes_is_limited_too(acme: Pool) -> None:
    """It writes the key alone, as it knows it; the database adds what was limited of the one before."""
    key_id = await make_key(acme)
    await limits.of_key(acme, key_id, "", {"streams": 2})
    await apikeys.limit(acme, key_id, Scope(models=("m",)), ["models"])
    async with acme.acquire() as connection, connection.transaction():
        version = await next_version(connection)
        await connection.execute(
            "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, rotated_from, version, models)"
            " SELECT 'successorKey', account_id, name, bcrypt_hash, key_id, $2, models FROM api_key WHERE key_id = $1",
            key_id, version,
        )  # fmt: skip
    book = LimitBook(acme)
    await book.refresh()
    assert book.limits.terms["successorKey"] == {"": {"streams": 2}}
    assert await acme.fetchval("SELECT limited_by_admin FROM api_key WHERE key_id = 'successorKey'") == ["models"]


async def test_a_connection_that_falls_silent_keeps_no_limit_from_being_known(
    acme: Pool, database_dsn: str, servers: LoopThread
) -> None:
    """As long as a listening one would: then it is dropped, and what is asked next is asked on another one."""
    proxy, dsn = proxied(servers, database_dsn)
    async with opened_pool(dsn, max_size=2) as pool:
        book = LimitBook(pool)
        await book.refresh()
        await limits.of_account(acme, "acme", "", {"streams": 1})
        proxy.forget()
        began_s = time.monotonic()
        with pytest.raises(StoreError):
            await book.refresh()
        await book.refresh()
        assert time.monotonic() - began_s < PROMISED_S
        assert book.limits.terms == {ACCOUNT: {"": {"streams": 1}}}
    proxy.stop()
