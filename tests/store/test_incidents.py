"""The register of incidents: whom one reached, exactly or wider and said so; who was told, with proof; the notices."""

import datetime
import time
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import incidents as control
from luntrex_proxy.core.incidents import Reach
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import apikeys, audit, incidents, mail
from luntrex_proxy.store.affected import Affected, affected
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.partitions import ensure_partitions
from tests.people import make_person
from tests.postgres import LOOKUP

NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).replace(microsecond=0)
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)
SETTINGS = Settings.model_validate({"mail": {"host": "smtp.example.org", "sender": "proxy@example.org"}})
TEXTS = {"nature": "A key was published.", "consequences": "Others may have used it.", "measures": "It was revoked."}
# One row per number, spread over accounts, keys, upstreams and time.
FILL = """
INSERT INTO usage SELECT 1 + n % $2::int, $3::timestamptz + n * $4::interval, gen_random_uuid(),
    'key' || lpad((n % $2::int)::text, 9, '0'), 'chat.completions', 'm',
    CASE WHEN n % 10 = 0 THEN 'rare' ELSE 'often' END, 200, 'ok', 'complete', false, 'reported', 1,
    0, 0, 0, 0, 1, 0, 0, 1, '1', 1, 1, 1, CASE WHEN n % 1000 = 7 THEN 2 ELSE 1 END, 1, 1, 1
FROM generate_series(0, $1::int - 1) n
"""


async def fill(pool: Pool, rows: int, accounts: int, begins: datetime.datetime, step: datetime.timedelta) -> None:
    """So many requests of so many accounts, one each `step`."""
    for days in range((step * rows).days + 2):
        await ensure_partitions(pool, (begins + days * DAY).date())
    await pool.execute(FILL, rows, accounts, begins, step)


@pytest.fixture
async def used(database: Pool) -> Pool:
    """Three accounts of one person each, whose requests begin two hours ago: every minute another account's."""
    for number, name in enumerate(("ada", "bob", "eve"), 1):
        await make_person(database, f"{name}@example.org", **{name: "owner"})
        assert await database.fetchval("SELECT account_id FROM account WHERE name = $1", name) == number
    await fill(database, 120, 3, NOW - 2 * HOUR, datetime.timedelta(minutes=1))
    return database


async def reached(pool: Pool, kind: str, name: str, begins_h: float, ends_h: float) -> Affected:
    """Who is affected between so many hours ago and so many hours ago."""
    reach = Reach(kind, name, NOW - begins_h * HOUR, NOW - ends_h * HOUR)
    return await affected(pool, [reach], NOW - 3_653 * DAY)


async def test_an_upstream_reaches_who_used_it_then(used: Pool) -> None:
    """To the request: others and other times are not in it, and who was tried there first is, which is said."""
    found = await reached(used, "upstream", "rare", 2, 0)
    assert [(each.name, each.records) for each in found.accounts] == [("ada", 4), ("bob", 5), ("eve", 4)]
    assert found.wider == ["requests that were tried at several upstreams are counted, because only the last one is on "
                           "record"]  # fmt: skip
    found = await reached(used, "upstream", "rare", 2, 2 - 1 / 60)
    assert [each.name for each in found.accounts] == ["ada"]
    assert (await reached(used, "upstream", "unheard", 1, 0)).accounts == []


async def test_what_ran_on_into_the_time_is_reached(used: Pool) -> None:
    """A long answer that began before; one whose process died, and that nobody knows the end of; an erased moment."""
    await used.execute("DELETE FROM usage WHERE NOT (account_id = 1 AND upstream = 'rare')")
    await used.execute("UPDATE usage SET started_at = $1, duration_us = 600000000", NOW - 65 * HOUR / 60)
    assert [each.name for each in (await reached(used, "upstream", "rare", 1, 0)).accounts] == ["ada"]
    await used.execute("UPDATE usage SET duration_us = 240000000")
    assert (await reached(used, "upstream", "rare", 1, 0)).accounts == []
    await used.execute("UPDATE usage SET duration_us = 0, code = 'interrupted', upstream = 'often'")
    found = await reached(used, "upstream", "rare", 1, 0)
    assert [each.name for each in found.accounts] == ["ada"]
    assert "nobody knows" in found.wider[-1]
    await used.execute("UPDATE usage SET code = 'ok', upstream = 'rare', key_id = 'erased'")
    assert [each.name for each in (await reached(used, "upstream", "rare", 0.05, 0)).accounts] == []
    assert [each.name for each in (await reached(used, "upstream", "rare", 1, 0)).accounts] == ["ada"]


async def test_a_key_reaches_its_account_used_or_not(used: Pool) -> None:
    """And all members of it; a member's own key the member."""
    made = await apikeys.create(used, LOOKUP, "bob", "leaked", bcrypt_cost=4)
    guest = await make_person(used, "guest@example.org", bob="developer")
    found = await reached(used, "key", made.info.key_id, 1, 0)
    assert [(each.name, each.records) for each in found.accounts] == [("bob", 0)]
    assert [each.email for each in found.people] == ["bob@example.org", "guest@example.org"]
    assert found.people[1] == type(found.people[1])(guest, "guest@example.org", ("bob",))
    assert [(a.name, a.records) for a in (await reached(used, "key", "key000000002", 2, 0)).accounts] == [("eve", 40)]


async def test_beyond_what_is_kept_it_is_wider_and_says_so(used: Pool) -> None:
    """Whole days from the sums; where not even those are left, every account that was there."""
    await used.execute("UPDATE usage_retention SET kept_from = $1", NOW - HOUR)
    await used.execute(
        "INSERT INTO usage_rollup_daily SELECT 2, ($1 AT TIME ZONE 'UTC')::date, 'k', 'm', 'rare', 7, 0, 0, 0, 0, 0, 0,"
        " 0, 0, 0, 0", NOW - 2 * HOUR,
    )  # fmt: skip
    found = await reached(used, "upstream", "rare", 2, 1.5)
    assert [(each.name, each.records) for each in found.accounts] == [("bob", 7)]
    assert "whole days count" in found.wider[0]
    await used.execute("UPDATE account SET created_at = $1", NOW - 4_000 * DAY)
    old = Reach("key", "abcdefghijkl", NOW - 4_000 * DAY, NOW - 3_900 * DAY)
    found = await affected(used, [old], NOW - 3_653 * DAY)
    assert len(found.accounts) == 3
    assert "every account that was there then counts" in found.wider[-1]


async def test_a_table_reaches_whose_rows_it_has(used: Pool) -> None:
    """By whatever column leads to people or accounts; younger rows are out of reach, and usage has its own times."""
    kit = await make_person(used, "kit@example.org")
    async with used.acquire() as connection:
        await mail.enqueue(connection, "x", kit)
    found = await reached(used, "table", "mail", 24, -1)
    assert [each.email for each in found.people] == ["kit@example.org"]
    assert found.categories == {"mail": "letters on their way; what one says is made when it is sent"}
    assert (await reached(used, "table", "mail", 24, 1)).people == []
    assert len((await reached(used, "table", "membership", 24, -1)).people) == 3
    assert sum(a.records for a in (await reached(used, "table", "usage", 1, 0)).accounts) == 60
    with pytest.raises(RefusedError, match="There is no table"):
        await reached(used, "table", "nothing; DROP TABLE mail", 24, 0)


async def test_the_erased_are_in_no_list(used: Pool) -> None:
    """What is left of an account without a name is counted, not listed."""
    await used.execute("DELETE FROM account WHERE name = 'eve'")
    await used.execute("DELETE FROM person WHERE email = 'eve@example.org'")
    found = await reached(used, "upstream", "often", 2, 0)
    assert [each.name for each in found.accounts] == ["ada", "bob"]
    assert [each.email for each in found.people] == ["ada@example.org", "bob@example.org"]
    assert found.erased_accounts == 1


async def entered(pool: Pool, **texts: str) -> int:
    reach = Reach("upstream", "often", NOW - 2 * HOUR, NOW)
    return (await incidents.open_(pool, "A leak", NOW - HOUR, [reach], texts)).incident_id


async def test_notices_are_proven_person_by_person(used: Pool) -> None:
    """Each is told once; that the letter went stays when the letter is forgotten, and when the person is erased."""
    number = await entered(used, **TEXTS)
    with pytest.raises(RefusedError, match="Before people are told, state contact"):
        await control.notify(used, SETTINGS, number, NOW)
    people = [person.person_id for person in (await control.affected(used, SETTINGS, number, NOW)).people]
    assert await incidents.notify(used, number, people, by_mail=True) == 3
    assert await incidents.notify(used, number, people, by_mail=True) == 0
    while (letter := await mail.claim(used)) is not None:
        assert (letter.kind, letter.facts) == ("incident", {"incident_id": number})
        await mail.close(used, letter.mail_id, "sent")
    await used.execute("DELETE FROM mail")
    await used.execute("DELETE FROM person WHERE email = 'eve@example.org'")
    proof = await incidents.notices(used, number)
    assert [(one.email, one.way, one.outcome) for one in proof] == [
        ("ada@example.org", "mail", "sent"), ("bob@example.org", "mail", "sent"), (None, "mail", "sent"),
    ]  # fmt: skip
    acts = [entry.act for entry in await audit.newest(used, 5)]
    assert acts == ["incident.notified"] * 2 + ["incident.affected_read", "incident.opened", "account.created"]


async def test_without_mail_a_banner_waits_for_each(used: Pool) -> None:
    """Until the person has read it."""
    number = await entered(used, **TEXTS)
    ada: uuid.UUID = await used.fetchval("SELECT person_id FROM person WHERE email = 'ada@example.org'")
    await incidents.notify(used, number, [ada], by_mail=False)
    assert [one.incident_id for one in await incidents.banners(used, ada)] == [number]
    await incidents.confirm_banner(used, ada, number)
    assert await incidents.banners(used, ada) == []
    assert [(one.way, one.outcome) for one in await incidents.notices(used, number)] == [("banner", "read")]
    assert await used.fetchval("SELECT count(*) FROM mail") == 0


@pytest.mark.parametrize("outcome", ["given_up", "refused", "unknown"])
async def test_whom_no_letter_reached_is_told_otherwise(used: Pool, outcome: str) -> None:
    """By a banner and in the list of addresses, until they have read it or another letter went."""
    number = await entered(used, **TEXTS)
    ada: uuid.UUID = await used.fetchval("SELECT person_id FROM person WHERE email = 'ada@example.org'")
    assert await incidents.notify(used, number, [ada], by_mail=True) == 1
    assert (await incidents.banners(used, ada), await incidents.unread(used)) == ([], {}), "the letter is under way"
    letter = await mail.claim(used)
    assert letter is not None
    await mail.close(used, letter.mail_id, outcome)
    assert [one.incident_id for one in await incidents.banners(used, ada)] == [number]
    assert await incidents.unread(used) == {number: ["ada@example.org"]}
    assert await incidents.notify(used, number, [ada], by_mail=True) == 1, "once more"
    assert await incidents.banners(used, ada) == []
    letter = await mail.claim(used)
    assert letter is not None
    await mail.close(used, letter.mail_id, outcome)
    await incidents.confirm_banner(used, ada, number)
    assert (await incidents.banners(used, ada), await incidents.unread(used)) == ([], {})
    assert await incidents.notify(used, number, [ada], by_mail=True) == 0
    assert [(one.way, one.outcome) for one in await incidents.notices(used, number)] == [("mail", "read")]


async def test_who_has_left_the_account_since_is_told_as_well(used: Pool) -> None:
    """The member whose key was used then, by an upstream or in the table; what the others have is not theirs."""
    eve = await make_person(used, "gone@example.org")
    await apikeys.create(used, LOOKUP, "ada", "k", bcrypt_cost=4)
    await used.execute("UPDATE api_key SET key_id = 'key000000000', status = 'revoked', person_id = $1", eve)
    for kind, name in (("upstream", "often"), ("key", "key000000000"), ("table", "usage")):
        found = await reached(used, kind, name, 2, 0)
        assert "gone@example.org" in [person.email for person in found.people], kind
    await used.execute("UPDATE api_key SET key_id = 'key999999999'")
    assert "gone@example.org" not in [each.email for each in (await reached(used, "upstream", "often", 2, 0)).people]


async def test_drafts_say_what_is_known_and_leave_the_rest_open(used: Pool) -> None:
    """Numbers from the tables; what nobody stated is a gap; late ones ask for the reason."""
    number = await entered(used)
    drafts = await control.draft(used, SETTINGS, number, NOW)
    for said in ("Approximate number of data subjects: 3, in 3 accounts", "upstream often from", "article 33"):
        assert said in drafts.to_authority
    gaps = ("what happened", "the likely consequences", "the measures", "name and address of the contact point")
    assert all(f"[TO BE STATED: {gap}]" in text for gap in gaps for text in (drafts.to_authority, drafts.to_people))
    assert "Reasons for the delay" not in drafts.to_authority
    assert "@" not in drafts.to_authority + drafts.to_people, "no address of anybody"
    await incidents.change(used, number, TEXTS)
    late = await control.draft(used, SETTINGS, number, NOW + 72 * HOUR)
    assert all(text in late.to_authority and text in late.to_people for text in TEXTS.values())
    assert "Reasons for the delay" in late.to_authority


async def test_what_cannot_be(used: Pool, tmp_path: Path) -> None:
    """Is refused in a sentence, and leaves nothing behind."""
    for title, aware_at, reaches in (
        ("", NOW, []), ("x" * 201, NOW, []), ("x", NOW + DAY, []), ("x", NOW, [Reach("key", "k", NOW, NOW)]),
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            await incidents.open_(used, title, aware_at, reaches)
    assert await incidents.list_all(used) == []
    number = (await incidents.open_(used, "exercise", NOW, drill=True)).incident_id
    with pytest.raises(RefusedError, match="nobody is told"):
        await incidents.notify(used, number, [], by_mail=True)
    await incidents.close(used, number, "over")
    for act in (
        incidents.close(used, number, "again"), incidents.get(used, 99), incidents.change(used, 99, {"nature": "x"}),
        incidents.add_reach(used, 99, Reach("key", "k", NOW, NOW + DAY)), incidents.notify(used, 99, [], by_mail=True),
    ):  # fmt: skip
        with pytest.raises(RefusedError):
            await act
