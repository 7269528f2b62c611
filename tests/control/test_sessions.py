"""Sessions: found by their cookie alone, over when they should be, listed and ended."""

import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import sessions
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.store.database import Pool
from tests.people import make_person, services_of


@pytest.fixture
def services(database: Pool, tmp_path: Path) -> Services:
    return services_of(database, tmp_path)


async def test_a_cookie_leads_to_its_person(database: Pool, services: Services) -> None:
    """With its roles, freshly proven; the database has no cookie, and another cookie leads nowhere."""
    ada = await make_person(database, operator=True, acme="owner", beta="viewer")
    token = await sessions.begin(services, ada, "192.0.2.0/24")
    who = await sessions.signed_in(services, token)
    assert who is not None
    assert (who.person_id, who.email, who.operator, who.awaits_code) == (ada, "ada@example.org", True, False)
    assert [(one.account, one.role) for one in who.members] == [("acme", Role.OWNER), ("beta", Role.VIEWER)]
    assert who.is_fresh
    assert who.may("acme", Permission.KEYS_WRITE)
    assert not who.may("beta", Permission.KEYS_WRITE)
    assert not who.may("other", Permission.ACCOUNT_READ)
    for wrong in (None, "", token[:-1], token + "x", "x" * 10_000, "\udce9\0"):
        assert await sessions.signed_in(services, wrong) is None
    dumped = str(await database.fetch("SELECT * FROM session"))
    assert token not in dumped
    assert token not in repr(who)
    assert who.form_token not in repr(who)


@pytest.mark.parametrize(
    "over",
    [
        "UPDATE session SET last_used_at = now() - interval '30 minutes 1 second'",
        "UPDATE session SET started_at = now() - interval '12 hours 1 second'",
        "UPDATE session SET awaits_code = true, started_at = now() - interval '10 minutes 1 second'",
        "UPDATE session SET last_used_at = now() + interval '6 minutes'",
        "UPDATE session SET ended_at = now()",
        "UPDATE person SET status = 'suspended'",
        "UPDATE person SET status = 'unverified'",
        "DELETE FROM person",
    ],
)
async def test_a_session_ends(database: Pool, services: Services, over: str) -> None:
    """Unused for 30 minutes, after 12 hours in any case, when the clock is put back, ended, its person shut out."""
    ada = await make_person(database)
    token = await sessions.begin(services, ada, "")
    await database.execute(
        "UPDATE session SET last_used_at = now() - interval '29 minutes', started_at = now() - interval '11 hours'"
    )
    assert await sessions.signed_in(services, token)
    await database.execute(over)
    assert await sessions.signed_in(services, token) is None


async def test_its_use_is_written_once_a_minute(database: Pool, services: Services) -> None:
    """A page of many requests is one write, and one that is used stays."""
    token = await sessions.begin(services, await make_person(database), "")
    version = "SELECT xmin::text, last_used_at FROM session"
    before = await database.fetchrow(version)
    await sessions.signed_in(services, token)
    assert await database.fetchrow(version) == before
    await database.execute("UPDATE session SET last_used_at = now() - interval '61 seconds'")
    await sessions.signed_in(services, token)
    assert await database.fetchval("SELECT last_used_at > now() - interval '5 seconds' FROM session")


async def test_proving_it_again_changes_the_cookie(database: Pool, services: Services) -> None:
    """The session stays the same one, fresh again; the old cookie is worth nothing."""
    token = await sessions.begin(services, await make_person(database), "")
    await database.execute("UPDATE session SET authenticated_at = now() - interval '10 minutes 1 second'")
    who = await sessions.signed_in(services, token)
    assert who is not None
    assert not who.is_fresh
    again = await sessions.renew(services, who)
    assert await sessions.signed_in(services, token) is None
    renewed = await sessions.signed_in(services, again)
    assert renewed is not None
    assert renewed.is_fresh
    assert renewed.session_id == who.session_id
    assert renewed.form_token == who.form_token, "forms that are open in other windows can still be sent"


async def test_sessions_are_listed_and_ended(database: Pool, services: Services) -> None:
    """One's own only; those that end are void at once, and each end is in the audit log."""
    ada, eve = await make_person(database), await make_person(database, "eve@example.org")
    tokens = [await sessions.begin(services, ada, f"192.0.{n}.0/24") for n in range(3)]
    other = await sessions.begin(services, eve, "")
    await sessions.begin(services, ada, "", awaits_code=True)
    first = await sessions.signed_in(services, tokens[0])
    theirs = await sessions.signed_in(services, other)
    assert first is not None
    assert theirs is not None
    listed = await sessions.list_own(services, first)
    assert sorted(one.network for one in listed) == ["192.0.0.0/24", "192.0.1.0/24", "192.0.2.0/24"]
    assert not await sessions.end(services, first, theirs.session_id)
    assert not await sessions.end(services, first, uuid.uuid4())
    second = await sessions.signed_in(services, tokens[1])
    assert second is not None
    assert await sessions.end(services, first, second.session_id)
    assert await sessions.signed_in(services, tokens[1]) is None
    assert await sessions.end_others(services, first) == 2
    assert await sessions.signed_in(services, tokens[0])
    assert await sessions.signed_in(services, tokens[2]) is None
    assert await sessions.signed_in(services, other)
    acts = [row[0] for row in await database.fetch("SELECT act FROM audit_entry ORDER BY sequence")]
    assert acts[-2:] == ["session.ended", "session.others_ended"]


async def test_form_tokens_belong_to_their_session(database: Pool, services: Services) -> None:
    """One of another session of the same person does not fit."""
    ada = await make_person(database)
    one = await sessions.signed_in(services, await sessions.begin(services, ada, ""))
    two = await sessions.signed_in(services, await sessions.begin(services, ada, ""))
    assert one is not None
    assert two is not None
    assert sessions.is_form_token(one, one.form_token)
    for wrong in (two.form_token, "", "é", "\udcff"):
        assert not sessions.is_form_token(one, wrong)
