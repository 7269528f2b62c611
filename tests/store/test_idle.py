"""Accounts that nobody uses: told first, erased when nobody came, left alone when somebody did."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from luntrex_proxy.store import holds, idle, mail
from luntrex_proxy.store.database import Pool
from tests.people import make_person
from tests.store.test_erasing import key_of

IDLE, NOTICE = 730, 30


async def test_told_then_erased(database: Pool, tmp_path: Path) -> None:
    """Its owner gets one letter; not before the day in it the account goes, with people whom nothing else keeps."""
    now: datetime = await database.fetchval("SELECT now()")
    owner = await make_person(database, "owner@example.org", old="owner", used="viewer")
    member = await make_person(database, "member@example.org", old="developer")
    await make_person(database, "o@example.org", used="owner", seen="owner")
    for name in ("old", "used", "seen"):
        await key_of(database, name, "k")
    await database.execute("UPDATE account SET created_at = now() - interval '900 days'")
    await database.execute("UPDATE api_key SET created_at = now() - interval '900 days'")
    await database.execute("UPDATE membership SET created_at = now() - interval '900 days'")
    await database.execute("UPDATE person SET created_at = now() - interval '900 days'")
    used = (
        "UPDATE api_key SET last_used_at = now() WHERE account_id IN (SELECT account_id FROM account WHERE name = $1)"
    )
    await database.execute(used, "used")
    await database.execute("UPDATE person SET last_seen_at = now() WHERE email = 'o@example.org'")
    assert [each.name for each in await idle.listed(database, now, IDLE)] == ["old"]
    assert await idle.erase_idle(database, tmp_path, now, IDLE, NOTICE, 2192) == 0, "nobody was told"
    await database.execute("UPDATE person SET status = 'restricted' WHERE person_id = $1", member)
    assert await idle.listed(database, now, IDLE) == [], "only stored, until that is lifted"
    await database.execute("UPDATE person SET status = 'active'")
    assert [await idle.tell_owners(database, now, IDLE, NOTICE) for _ in range(2)] == [1, 0]
    letter = await mail.claim(database)
    assert letter is not None
    assert (letter.kind, letter.person_id) == (idle.LETTER, owner)
    assert letter.facts["erased_on"] == (now + timedelta(days=NOTICE)).date().isoformat()
    assert await mail.claim(database) is None
    soon, later = now + timedelta(days=NOTICE - 1), now + timedelta(days=NOTICE + 1)
    assert await idle.erase_idle(database, tmp_path, soon, IDLE, NOTICE, 2192) == 0
    hold = await holds.place(
        database, "x", await database.fetchval("SELECT account_id FROM account WHERE name = 'old'")
    )
    assert await idle.erase_idle(database, tmp_path, later, IDLE, NOTICE, 2192) == 0, "held"
    await holds.lift(database, hold.hold_id)
    assert await idle.erase_idle(database, tmp_path, later, IDLE, NOTICE, 2192) == 1
    assert await database.fetchval("SELECT array_agg(name ORDER BY name) FROM account") == ["seen", "used"]
    left = {row[0] for row in await database.fetch("SELECT person_id FROM person")}
    assert (owner in left, member in left, len(left)) == (True, False, 2)


@pytest.mark.parametrize(("outcome", "erased"), [("given_up", 0), ("unknown", 0), ("refused", 1), ("sent", 1)])
async def test_nobody_is_erased_who_could_not_be_told(
    database: Pool, tmp_path: Path, outcome: str, erased: int
) -> None:
    """While our mail does not go out the notice is given anew; an address that is gone cannot keep data for ever."""
    now: datetime = await database.fetchval("SELECT now()")
    await make_person(database, acme="owner")
    for table in ("account", "membership", "person"):
        await database.execute(f"UPDATE {table} SET created_at = now() - interval '900 days'")
    assert await idle.tell_owners(database, now, IDLE, NOTICE) == 1
    letter = await mail.claim(database)
    assert letter is not None
    await mail.close(database, letter.mail_id, outcome)
    tomorrow, later = now + timedelta(days=1), now + timedelta(days=NOTICE + 2)
    assert await idle.tell_owners(database, tomorrow, IDLE, NOTICE) == 1 - erased
    assert await idle.erase_idle(database, tmp_path, now + timedelta(days=NOTICE), IDLE, NOTICE, 2192) == erased
    if not erased:
        letter = await mail.claim(database)
        assert letter is not None
        assert letter.facts["erased_on"] == (tomorrow + timedelta(days=NOTICE)).date().isoformat()
        await mail.close(database, letter.mail_id, "sent")
        await database.execute("DELETE FROM mail")
        assert await idle.tell_owners(database, later, IDLE, NOTICE) == 0
        assert await idle.erase_idle(database, tmp_path, later, IDLE, NOTICE, 2192) == 1


async def test_who_comes_back_keeps_it(database: Pool, tmp_path: Path) -> None:
    """A request or a sign-in after the letter, and the letter is forgotten."""
    now: datetime = await database.fetchval("SELECT now()")
    await make_person(database, acme="owner")
    for table in ("account", "membership", "person"):
        await database.execute(f"UPDATE {table} SET created_at = now() - interval '900 days'")
    assert await idle.tell_owners(database, now, IDLE, NOTICE) == 1
    await database.execute("UPDATE person SET last_seen_at = now()")
    later = now + timedelta(days=NOTICE + 1)
    assert await idle.erase_idle(database, tmp_path, later, IDLE, NOTICE, 2192) == 0
    assert await idle.tell_owners(database, later, IDLE, NOTICE) == 0
    assert await database.fetchval("SELECT idle_notice_at FROM account") is None
