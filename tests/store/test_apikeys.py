"""Keys at rest: made, listed, rotated, revoked; the plain key is nowhere."""

import asyncio
import datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import bcrypt
import pytest

from luntrex_proxy.core.apikeys import bcrypt_input, lookup_hash, parse
from luntrex_proxy.core.scope import Scope, read_scope
from luntrex_proxy.store import accounts, apikeys
from luntrex_proxy.store import keytransfer as transfer
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import Terms
from tests.people import make_person
from tests.postgres import LOOKUP

ALWAYS = Terms()


async def make(pool: Pool, name: str = "main", terms: Terms = ALWAYS) -> NewKey:
    return await apikeys.create(pool, LOOKUP, "acme", name, terms, bcrypt_cost=4)


async def test_stored_are_hashes_only(acme: Pool, postgres_dsn: str) -> None:
    """In the table: `$2b$` of the key and its lookup hash. The plain key is in no row and in no file of the server."""
    made = await make(acme)
    key = made.key.encode()
    row = await acme.fetchrow("SELECT * FROM api_key")
    assert row is not None
    assert row["bcrypt_hash"].startswith("$2b$04$")
    assert bcrypt.checkpw(bcrypt_input(key), row["bcrypt_hash"].encode())
    assert row["lookup_hash"] == lookup_hash(key, LOOKUP.key)
    assert row["pepper_fingerprint"] == LOOKUP.fingerprint
    assert parse(key) == row["key_id"] == made.info.key_id
    dump = str([dict(row) for row in await acme.fetch("SELECT * FROM api_key")])
    secret = made.key[16:59]
    assert secret not in dump
    assert secret not in repr(made)
    await acme.execute("CHECKPOINT")
    directory = Path(parse_qs(urlsplit(postgres_dsn).query)["host"][0])
    files = [path for path in directory.parent.rglob("*") if path.is_file()]
    assert any(made.info.key_id.encode() in path.read_bytes() for path in files), "the search finds what is there"
    assert not [path for path in files if secret.encode() in path.read_bytes()]


async def test_default_cost_is_ten_and_the_loop_runs_on(acme: Pool) -> None:
    """The shipped cost is 10; hashing happens in a thread."""
    making = asyncio.create_task(apikeys.create(acme, LOOKUP, "acme", "main"))
    ticks = 0
    while not making.done():
        await asyncio.sleep(0.005)
        ticks += 1
    await making
    assert (await acme.fetchval("SELECT bcrypt_hash FROM api_key")).startswith("$2b$10$")
    assert ticks >= 5


async def test_list_shows_states(acme: Pool) -> None:
    """The list says what works and what does not, by account; no secret is in it."""
    await accounts.create(acme, "other")
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    live, ended, revoked = (
        await make(acme, "live"),
        await make(acme, "ended"),
        await make(acme, "gone"),
    )
    await acme.execute("UPDATE api_key SET expires_at = $1 WHERE key_id = $2", past, ended.info.key_id)
    await apikeys.revoke(acme, revoked.info.key_id)
    states = {key.name: key.state for key in await apikeys.list_all(acme, "acme")}
    assert states == {"live": "active", "ended": "expired", "gone": "revoked"}
    assert await apikeys.list_all(acme, "other") == []
    await accounts.suspend(acme, "acme")
    assert {key.state for key in await apikeys.list_all(acme)} == {"account suspended", "expired", "revoked"}
    assert live.key[16:59] not in str(await apikeys.list_all(acme))
    assert past in {key.expires_at for key in await apikeys.list_all(acme)}
    with pytest.raises(RefusedError, match="There is no account 'nope'; `luntrex-proxy accounts list`"):
        await apikeys.list_all(acme, "nope")


async def test_current_key_of_an_account(acme: Pool) -> None:
    """The newest key in use: not an older one, a replaced, an ended or a revoked one, nor another account's."""
    await accounts.create(acme, "other")
    await apikeys.create(acme, LOOKUP, "other", "main", bcrypt_cost=4)
    assert await apikeys.current(acme, "acme") is None
    first = await make(acme, "first")
    assert await apikeys.current(acme, "acme") == first.info
    second = await make(acme, "second")
    assert await apikeys.current(acme, "acme") == second.info
    await apikeys.revoke(acme, second.info.key_id)
    third = await apikeys.rotate(acme, LOOKUP, first.info.key_id, overlap_s=60, bcrypt_cost=4)
    assert await apikeys.current(acme, "acme") == third.info
    await accounts.suspend(acme, "acme")
    suspended = await apikeys.current(acme, "acme")
    assert suspended is not None
    assert (suspended.key_id, suspended.state) == (third.info.key_id, "account suspended")
    await acme.execute("UPDATE api_key SET expires_at = now() WHERE key_id = $1", third.info.key_id)
    assert await apikeys.current(acme, "acme") is None, "the first key still works, but it was replaced"


async def test_a_key_that_could_not_work_is_not_made(acme: Pool) -> None:
    """An end in the past and a suspended account are refused, and no key comes of it."""
    with pytest.raises(RefusedError, match="cannot end in the past"):
        await make(acme, terms=Terms(expires_at=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)))
    await accounts.suspend(acme, "acme")
    with pytest.raises(RefusedError, match=r"acme is suspended, .*`luntrex-proxy accounts resume acme`"):
        await make(acme)
    assert await apikeys.list_all(acme) == []


async def test_names_are_unique_among_keys_in_use(acme: Pool) -> None:
    """A name is taken while its key is in use, also by two creations at once, and free after revocation."""
    results = await asyncio.gather(make(acme), make(acme), return_exceptions=True)
    (made,) = [result for result in results if isinstance(result, NewKey)]
    (refused,) = [result for result in results if isinstance(result, RefusedError)]
    assert str(refused) == (
        f"The key {made.info.key_id} of this account has this name; choose another, or rotate that key."
    )
    await apikeys.revoke(acme, made.info.key_id)
    assert (await make(acme)).info.state == "active"
    await accounts.create(acme, "other")
    await apikeys.create(acme, LOOKUP, "other", "main", bcrypt_cost=4)


async def test_rotation_overlaps(acme: Pool) -> None:
    """The successor has account, name and planned end of the old key, which ends after the overlap."""
    end = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    old = await make(acme, terms=Terms(expires_at=end))
    new = await apikeys.rotate(acme, LOOKUP, old.info.key_id, overlap_s=3600, bcrypt_cost=4)
    assert new.key != old.key
    assert (new.info.name, new.info.account, new.info.rotated_from) == ("main", "acme", old.info.key_id)
    assert new.info.expires_at == end
    left_s = await acme.fetchval(
        "SELECT extract(epoch FROM expires_at - now())::float8 FROM api_key WHERE key_id = $1", old.info.key_id
    )
    assert 3590 < left_s <= 3600
    with pytest.raises(RefusedError, match=f"rotate its successor {new.info.key_id}"):
        await apikeys.rotate(acme, LOOKUP, old.info.key_id, overlap_s=0, bcrypt_cost=4)
    with pytest.raises(RefusedError, match=f"The key {new.info.key_id} of this account has this name"):
        await make(acme)


async def test_rotation_without_overlap_and_early_end(acme: Pool) -> None:
    """Overlap 0 ends the old key at once; an overlap never lengthens a key's life."""
    old = await make(acme)
    await apikeys.rotate(acme, LOOKUP, old.info.key_id, overlap_s=0, bcrypt_cost=4)
    states = {key.key_id: key.state for key in await apikeys.list_all(acme)}
    assert states[old.info.key_id] == "expired"
    soon = await acme.fetchval("SELECT now() + interval '1 minute'")
    short = await make(acme, "short", Terms(expires_at=soon))
    await apikeys.rotate(acme, LOOKUP, short.info.key_id, overlap_s=86_400, bcrypt_cost=4)
    assert {key.expires_at for key in await apikeys.list_all(acme) if key.name == "short"} == {soon}


async def test_a_successor_has_everything_the_old_key_had(acme: Pool) -> None:
    """Every column is carried over, or is named here as one that must not be: a new column belongs to one of both."""
    its_own = {
        "key_id", "bcrypt_hash", "lookup_hash", "pepper_fingerprint", "old_lookup_hash", "old_pepper_fingerprint",
        "rotated_from", "created_at", "last_used_at", "version",
    }  # fmt: skip
    constant = {"status", "revoked_at"}  # only a key that works is rotated
    member = await make_person(acme, acme="developer")
    scope = read_scope(["models"], ["m*"], ["eu"], ["192.0.2.0/24"])
    now = await acme.fetchval("SELECT now()")
    terms = Terms(now + datetime.timedelta(hours=1), now + datetime.timedelta(days=30), scope)
    old = await apikeys.create(acme, LOOKUP, "acme", "main", terms, person_id=str(member), bcrypt_cost=4)
    before = dict(await acme.fetchrow("SELECT * FROM api_key"))
    assert {name for name, value in before.items() if value is None} <= its_own | constant, "a column has no value here"
    new = await apikeys.rotate(acme, LOOKUP, old.info.key_id, overlap_s=60, bcrypt_cost=4)
    after = dict(await acme.fetchrow("SELECT * FROM api_key WHERE key_id = $1", new.info.key_id))
    kept = before.keys() - its_own
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
    assert after["rotated_from"] == old.info.key_id


async def test_revoked_and_expired_keys_cannot_be_rotated(acme: Pool) -> None:
    """What has ended gets no successor."""
    made = await make(acme)
    await apikeys.revoke(acme, made.info.key_id)
    with pytest.raises(RefusedError, match="has ended; make a new one"):
        await apikeys.rotate(acme, LOOKUP, made.info.key_id, overlap_s=60, bcrypt_cost=4)


async def test_revoking_twice_keeps_the_first_time(acme: Pool) -> None:
    """The time of revocation is that of the first."""
    made = await make(acme)
    first = await apikeys.revoke(acme, made.info.key_id)
    again = await apikeys.revoke(acme, made.info.key_id)
    assert first.state == "revoked"
    assert first.revoked_at == again.revoked_at is not None


async def test_unknown_ids_and_whole_keys(acme: Pool) -> None:
    """An unknown id is refused; a whole key given as id is not repeated in the sentence."""
    made = await make(acme)
    with pytest.raises(RefusedError, match="no key of this id"):
        await apikeys.revoke(acme, "0" * 12)
    with pytest.raises(RefusedError, match="whole key, not a key id") as caught:
        await apikeys.revoke(acme, made.key)
    assert made.key[16:] not in str(caught.value)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "a\x00b", "a\udcffb", "n\n", "é"])
async def test_unusable_names_are_refused(acme: Pool, name: str) -> None:
    """The rule for names is said."""
    with pytest.raises(RefusedError, match="A key name is 1 to 64 letters"):
        await make(acme, name)


LAST = datetime.datetime.max
WEST, EAST = (datetime.timezone(datetime.timedelta(hours=hours)) for hours in (-12, 14))


@pytest.mark.parametrize(
    ("terms", "sentence"),
    [
        (Terms(not_before=datetime.datetime.min.replace(tzinfo=datetime.UTC)), "A key can begin between 1970 and 9999"),
        (Terms(not_before=datetime.datetime.min.replace(tzinfo=EAST)), "A key can begin between 1970 and 9999"),
        (Terms(not_before=LAST.replace(tzinfo=WEST)), "A key can begin between 1970 and 9999"),
        (Terms(expires_at=LAST.replace(tzinfo=WEST)), "A key can end between 1970 and 9999"),
        (Terms(expires_at=datetime.datetime.min.replace(tzinfo=datetime.UTC)), "A key can end between 1970 and 9999"),
        (
            Terms(*(datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2099, 2098))),
            "A key cannot end before it begins",
        ),
    ],
)
async def test_the_sentence_is_about_the_field_at_fault(acme: Pool, terms: Terms, sentence: str) -> None:
    """Times that no key can have are called times, whichever of the two it is; nothing is made."""
    with pytest.raises(RefusedError, match=sentence):
        await make(acme, terms=terms)
    assert await apikeys.list_all(acme) == []


async def test_the_last_of_all_times_is_one(acme: Pool) -> None:
    """Who means "never" by it gets what was meant, and a key may begin long ago."""
    first, last = (datetime.datetime(year, month, 1, tzinfo=datetime.UTC) for year, month in ((1970, 1), (9999, 12)))
    made = await make(acme, terms=Terms(not_before=first, expires_at=last))
    assert (made.info.state, made.info.not_before, made.info.expires_at) == ("active", first, last)


@pytest.mark.parametrize("overlap_s", [-1.0, float("nan"), float("inf"), 1e300, 7 * 86400 + 1])
async def test_an_overlap_has_bounds(acme: Pool, overlap_s: float) -> None:
    """Nothing is rotated beyond them."""
    made = await make(acme)
    with pytest.raises(RefusedError, match="overlap of two keys is 0 to 168 hours"):
        await apikeys.rotate(acme, LOOKUP, made.info.key_id, overlap_s=overlap_s, bcrypt_cost=4)
    assert len(await apikeys.list_all(acme)) == 1


@pytest.mark.parametrize("given", ["", "short", "0" * 13, "é" * 12, "x\x00" * 6, "\udcff" * 12, "0" * 100_000])
async def test_what_cannot_be_an_id_is_unknown(acme: Pool, given: str) -> None:
    """For every verb that takes one, and it is not repeated."""
    for verb in (apikeys.revoke, apikeys.suspend, apikeys.resume):
        with pytest.raises(RefusedError, match="There is no key of this id"):
            await verb(acme, given)
    with pytest.raises(RefusedError, match="There is no key of this id"):
        await apikeys.rotate(acme, LOOKUP, given, overlap_s=1, bcrypt_cost=4)
    with pytest.raises(RefusedError, match="There is no key of this id"):
        await apikeys.limit(acme, given, Scope(models=("m",)), ["models"])


@pytest.mark.parametrize("given", ["", "a b", "a\x00", "a\udcff", "lx_" + "k" * 62])
async def test_what_cannot_be_an_account_is_unknown(acme: Pool, given: str) -> None:
    """The sentence is about the account, and does not repeat what was given."""
    for work in (
        apikeys.create(acme, LOOKUP, given, "main", bcrypt_cost=4),
        apikeys.list_all(acme, given),
        transfer.export_lines(acme, given),
        transfer.import_lines(acme, [], given),
    ):
        with pytest.raises(RefusedError, match=r"^There is no account of this name"):
            await work


async def test_unknown_account(acme: Pool) -> None:
    """The sentence says how to make one."""
    with pytest.raises(RefusedError, match="no account 'nobody'; make it with"):
        await apikeys.create(acme, LOOKUP, "nobody", "main", bcrypt_cost=4)


async def test_each_change_is_announced_once_at_commit(acme: Pool) -> None:
    """Create, rotate and revoke each take one version, and a refused change takes none."""
    made = await make(acme)
    await apikeys.rotate(acme, LOOKUP, made.info.key_id, overlap_s=60, bcrypt_cost=4)
    await apikeys.revoke(acme, made.info.key_id)
    with pytest.raises(RefusedError):
        await make(acme)
    assert await acme.fetchval("SELECT version FROM change_version") == 3
    assert await acme.fetchval("SELECT version FROM api_key WHERE key_id = $1", made.info.key_id) == 3
