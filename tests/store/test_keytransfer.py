"""Keys of another installation: taken over by their bcrypt hash, all or none, and checked at their first use."""

import asyncio
import datetime
import json
import uuid

import pytest

from luntrex_proxy.core.scope import read_scope
from luntrex_proxy.store import accounts, apikeys, rights
from luntrex_proxy.store import keytransfer as transfer
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.keytransfer import Taken
from luntrex_proxy.store.proving import Prover
from tests.people import make_person
from tests.postgres import LOOKUP
from tests.store.keys import HERE, SECOND, loaded, make, set_peppers

LATER = datetime.datetime(2099, 1, 1, tzinfo=datetime.UTC)
HASH = "$2b$10$" + "a" * 21 + "u" + "a" * 31


async def moved(pool: Pool, lines: list[str], account: str | None = None) -> Taken:
    """The lines into a database that has none of the keys, and another pepper."""
    await pool.execute("DELETE FROM api_key")
    await set_peppers(pool, SECOND)
    return await transfer.import_lines(pool, [line.encode() for line in lines], account)


async def test_out_and_in(acme: Pool) -> None:
    """Name, terms and limits arrive; the key works after one look by bcrypt; no line holds a secret."""
    terms = Terms(expires_at=LATER, scope=read_scope(["models"], ["m*"], ["eu"], ["192.0.2.0/24", "2001:db8::/32"]))
    plain, limited = await make(acme, "plain"), await make(acme, "limited", terms=terms)
    ended = await make(acme, "revoked")
    await apikeys.revoke(acme, ended.info.key_id)
    lines = (await transfer.export_lines(acme)).lines
    assert len(lines) == 2
    assert set(json.loads(lines[1])) == {"id", "account", "name", "bcrypt_hash"}, "defaults are left out"
    assert not any(made.key[16:59] in line for made in (plain, limited, ended) for line in lines)
    before = {key.name: key for key in await apikeys.list_all(acme)}
    assert await moved(acme, lines) == Taken(2, 0)
    after = {key.name: key for key in await apikeys.list_all(acme)}
    for name in ("plain", "limited"):
        for kind in ("key_id", "account", "not_before", "expires_at", "endpoints", "models", "regions", "networks"):
            assert getattr(after[name], kind) == getattr(before[name], kind), kind
    ring = await loaded(acme, SECOND)
    assert set(ring.unproven) == {plain.info.key_id, limited.info.key_id}
    caller = await Prover(ring, lambda: acme).prove(limited.key.encode(), HERE)
    assert caller is not None
    assert caller.scope == terms.scope
    assert (await transfer.export_lines(acme, "acme")).lines == lines


async def test_a_members_key_is_theirs_where_the_account_has_them(acme: Pool) -> None:
    """Told by the address alone. Who is no member there, or nobody, has none: the key is the account's own."""
    members = {name: await make_person(acme, f"{name}@example.org", acme="developer") for name in ("ada", "bob", "cyd")}
    for name, person_id in members.items():
        await apikeys.create(acme, LOOKUP, "acme", name, person_id=str(person_id), bcrypt_cost=4)
    await make(acme, "service")
    lines = (await transfer.export_lines(acme)).lines
    assert [json.loads(line).get("person") for line in lines] == [*(f"{name}@example.org" for name in members), None]
    await acme.execute("DELETE FROM api_key")
    await acme.execute("DELETE FROM person WHERE email LIKE 'ada@%' OR email LIKE 'bob@%'")
    again = await make_person(acme, "ada@example.org", acme="viewer")
    await acme.execute("DELETE FROM membership WHERE person_id = $1", members["cyd"])
    assert await moved(acme, lines) == Taken(4, 2)
    owners = {row["name"]: row["person_id"] for row in await acme.fetch("SELECT name, person_id FROM api_key")}
    assert owners == {"ada": again, "bob": None, "cyd": None, "service": None}
    acts = await acme.fetch("SELECT act, facts FROM audit_entry WHERE act LIKE 'key.%ported' ORDER BY sequence")
    assert [(act["act"], json.loads(act["facts"])) for act in acts] == [
        ("key.exported", {"keys": 4}),
        ("key.imported", {"keys": 4}),
    ]


async def test_keys_that_are_stopped_do_not_go_along(acme: Pool) -> None:
    """They would work there, where nothing stops them: of a suspended key or account, of whom data is only stored."""
    ada, bob = [await make_person(acme, f"{name}@example.org", acme="owner") for name in ("ada", "bob")]
    for name, person_id in (("ada", ada), ("bob", bob)):
        await apikeys.create(acme, LOOKUP, "acme", name, person_id=str(person_id), bcrypt_cost=4)
    await make(acme, "service")
    await apikeys.suspend(acme, (await make(acme, "paused")).info.key_id)

    async def exported(account: str | None = None) -> tuple[list[str], int]:
        found = await transfer.export_lines(acme, account)
        return [json.loads(line)["name"] for line in found.lines], found.stopped

    async def restrict(person_id: uuid.UUID) -> None:
        async with acme.acquire() as connection, connection.transaction():
            await rights.set_restricted(connection, person_id, restricted=True)

    assert await exported() == (["ada", "bob", "service"], 1)
    await restrict(ada)
    assert await exported() == (["bob", "service"], 2)
    await restrict(bob)
    assert await exported("acme") == ([], 4)
    await acme.execute("UPDATE person SET status = 'active'")
    await accounts.suspend(acme, "acme")
    assert await exported() == ([], 4)


async def test_into_one_account(acme: Pool) -> None:
    """`--account` puts all of them there."""
    await make(acme)
    lines = (await transfer.export_lines(acme)).lines
    for work in (transfer.export_lines(acme, "other"), transfer.import_lines(acme, [], "other")):
        with pytest.raises(RefusedError, match="There is no account 'other'"):
            await work
    await accounts.create(acme, "other")
    assert await moved(acme, lines, "other") == Taken(1, 0)
    assert [key.account for key in await apikeys.list_all(acme)] == ["other"]


def line(**more: object) -> str:
    return json.dumps({"id": "A" * 12, "account": "acme", "name": "n", "bcrypt_hash": HASH} | more)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ("not json", "this is no line of"),
        ("[]", "this is no line of"),
        ('{"id":"\udcff"}', "this is no line of"),
        (line(key="lx_secret"), "this is no line of"),
        (line(id="short"), "this is no line of"),
        (line(bcrypt_hash="$2y$10$" + "a" * 53), "this is no line of"),
        (line(bcrypt_hash=HASH.replace("$10$", "$13$")), "(cost 4 to 12)"),
        (line(bcrypt_hash=HASH.replace("$10$", "$03$")), "(cost 4 to 12)"),
        (line(bcrypt_hash="$2b$10$" + "a" * 53), "is none that bcrypt makes"),
        (line(id="B" * 12), "the key BBBBBBBBBBBB came before"),
        (line(name="fine"), "a line before has the same account and name"),
        (line(account="nobody"), "There is no account 'nobody'"),
        (line(name="bad name"), "this is no line of"),
        (line(name="main"), "of this account has this name"),
        (line(expires_at="2001-01-01T00:00:00Z"), "cannot end in the past"),
        (line(not_before="0001-01-01T00:00:00+14:00"), "can begin between 1970 and 9999"),
        (line(expires_at="9999-12-31T23:59:59-12:00"), "can end between 1970 and 9999"),
        (line(account="a\x00"), "this is no line of"),
        (line(networks=["1.2.3.4/8"]), "did you mean 1.0.0.0/8"),
        (line(endpoints=["shell"]), "'shell' is no endpoint"),
        (line(id="THERE"), "there is a key of the id"),
    ],
)
async def test_a_bad_line_is_named_and_nothing_is_taken_over(acme: Pool, bad: str, sentence: str) -> None:
    """The number of the line, one sentence, and no key of the lines before it either; nothing is quoted from it."""
    there = await make(acme)
    bad = bad.replace("THERE", there.info.key_id)
    lines = [line(id="B" * 12, name="fine").encode(), b"", bad.encode("utf-8", "surrogateescape")]
    with pytest.raises(RefusedError) as refused:
        await transfer.import_lines(acme, lines)
    assert str(refused.value).startswith("Line 3: ")
    assert sentence in str(refused.value)
    assert str(refused.value).endswith("Nothing was taken over.")
    assert "lx_secret" not in str(refused.value)
    assert [key.name for key in await apikeys.list_all(acme)] == ["main"]


async def test_many_lines_hold_nobody_up(acme: Pool) -> None:
    """Thousands are one statement; whoever revokes a key meanwhile does not wait for them to be read or checked."""
    made = await make(acme)
    many = [line(id=f"{n:012d}", name=f"n{n}").encode() for n in range(5_000)]
    importing = asyncio.create_task(transfer.import_lines(acme, many))
    await asyncio.sleep(0)
    await apikeys.revoke(acme, made.info.key_id)
    assert await importing == Taken(5_000, 0)
    assert len(await apikeys.list_all(acme)) == 5_001
    with pytest.raises(RefusedError, match="100001 keys are too many at once"):
        await transfer.import_lines(acme, [line().encode()] * 100_001)
