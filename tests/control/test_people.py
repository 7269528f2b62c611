"""How people come to be here: by the operator, by signing up, by an invitation, first of all; and back in by a link."""

import asyncio
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import links, people, sessions, signin
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.links import DeadLinkError
from luntrex_proxy.control.people import AgeError, LastOwnerError
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.signin import WrongError
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import accounts, tokens
from luntrex_proxy.store import people as table
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from tests.people import MAIL, PASSWORD, give_password, make_person, services_of

HERE = "192.0.2.0/24"
ADA = "ada@example.org"


@pytest.fixture
def services(database: Pool, tmp_path: Path) -> Services:
    """Without mail."""
    return services_of(database, tmp_path)


@pytest.fixture
def mailing(database: Pool, tmp_path: Path) -> Services:
    """With mail, and open to everybody."""
    return services_of(database, tmp_path, **MAIL)


def token_of(link: str | None) -> str:
    assert link is not None
    return link.partition("?token=")[2]


async def letters(pool: Pool) -> list[tuple[str, str | None, str | None]]:
    """Kind, address and outcome of every queued letter."""
    rows = await pool.fetch(
        "SELECT kind, coalesce(m.address, p.email), outcome FROM mail m LEFT JOIN person p USING (person_id)"
        " ORDER BY queued_at"
    )
    return [tuple(row) for row in rows]


async def test_the_operator_makes_a_person_and_hands_the_link_on(services: Services) -> None:
    """It lets set a password, once; the link is in no table; the affirmation has its time."""
    await accounts.create(services.pool, "acme")
    made = await people.create(
        services, "Ada@Example.org", " Ada  Lovelace ", affirmed_16=True, account="acme", role=Role.ADMIN
    )
    assert made.email == ADA
    token = token_of(made.link)
    assert token not in repr(made)
    assert token not in str([tuple(row) for row in await services.pool.fetch("SELECT * FROM one_time_link")])
    begun = await people.set_password_by_link(services, token, PASSWORD, HERE)
    who = await sessions.signed_in(services, begun.cookie)
    assert who is not None
    assert (who.email, who.name, who.role_in("acme")) == (ADA, "Ada Lovelace", Role.ADMIN)
    with pytest.raises(DeadLinkError):
        await people.set_password_by_link(services, token, PASSWORD + " anew", HERE)
    assert await signin.sign_in(services, ADA, PASSWORD, HERE)
    row = await services.pool.fetchrow(
        "SELECT affirmed_16_at > now() - interval '1 minute', email_verified_at FROM person"
    )
    assert tuple(row) == (True, None)  # whoever got the link from the operator proved no address
    acts = [row[0] for row in await services.pool.fetch("SELECT act FROM audit_entry ORDER BY sequence")]
    assert acts[-5:-1] == ["member.set", "setup_link.made", "password.set", "session.started"]


@pytest.mark.parametrize(
    ("address", "name", "affirmed", "says"),
    [
        ("ada@example.org", "", False, "16 and older"),
        ("no address", "", True, "Give a mail address"),
        ("new@example.org", "x" * 201, True, "at most 200"),
        ("here@example.org", "", True, "already"),
    ],
)
async def test_what_cannot_be_made_leaves_nothing(
    services: Services, address: str, name: str, affirmed: bool, says: str
) -> None:
    """No person, no link, no letter."""
    await make_person(services.pool, "here@example.org")
    with pytest.raises(RefusedError, match=says):
        await people.create(services, address, name, affirmed_16=affirmed)
    with pytest.raises(RefusedError, match="no account"):
        await people.create(services, "new@example.org", affirmed_16=True, account="nope")
    assert await services.pool.fetchval("SELECT count(*) FROM person") == 1
    assert await services.pool.fetchval("SELECT count(*) FROM one_time_link") == 0


async def test_with_mail_a_letter_takes_the_link(mailing: Services) -> None:
    """Nobody else sees it: it does not exist before the letter is sent."""
    made = await people.create(mailing, ADA, affirmed_16=True)
    assert made.link is None
    assert (await people.reset(mailing, ADA)).link is None
    assert await letters(mailing.pool) == [("setup", ADA, None), ("reset", ADA, None)]
    assert await mailing.pool.fetchval("SELECT count(*) FROM one_time_link") == 0


async def test_a_reset_sets_another_password_and_ends_everything(services: Services) -> None:
    """Sessions and older links are over; the second factor stays unless the operator takes it away."""
    ada = await make_person(services.pool)
    await give_password(services, ada)
    await services.pool.execute("INSERT INTO totp (person_id, seed, confirmed_at) VALUES ($1, '', now())", ada)
    session = await sessions.begin(services, ada, HERE)
    first = token_of((await people.reset(services, ADA)).link)
    second = token_of((await people.reset(services, ADA)).link)
    begun = await people.set_password_by_link(services, second, "another long password", HERE)
    assert begun.awaits_code
    assert await sessions.signed_in(services, session) is None
    with pytest.raises(DeadLinkError):
        await people.set_password_by_link(services, first, PASSWORD, HERE)
    with pytest.raises(WrongError):
        await signin.sign_in(services, ADA, PASSWORD, HERE)
    third = token_of((await people.reset(services, ADA, second_factor=True)).link)
    assert not (await people.set_password_by_link(services, third, PASSWORD, HERE)).awaits_code


async def test_a_link_ends_by_itself_and_by_a_weak_password_does_not(services: Services) -> None:
    """Looking at it, and a password that is refused, use nothing up. Of two at once, one gets in."""
    await make_person(services.pool)
    token = token_of((await people.reset(services, ADA)).link)
    for _ in range(3):
        assert (await links.look_at(services, token)).kind == "reset"
    with pytest.raises(RefusedError, match="at least 15"):
        await people.set_password_by_link(services, token, "short", HERE)
    both = await asyncio.gather(
        *(people.set_password_by_link(services, token, f"{PASSWORD} {n}", HERE) for n in range(2)),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, DeadLinkError) for one in both) == [False, True]
    late = token_of((await people.reset(services, ADA)).link)
    await services.pool.execute("UPDATE one_time_link SET expires_at = now()")
    for dead in (late, token, "", "x" * 10_000, "\udcff"):
        with pytest.raises(DeadLinkError):
            await people.set_password_by_link(services, dead, PASSWORD, HERE)
    wrong_kind = await links.make_first(services)
    with pytest.raises(DeadLinkError):
        await people.set_password_by_link(services, wrong_kind, PASSWORD, HERE)


async def test_the_first_person_runs_the_installation(services: Services) -> None:
    """By the newest link only, and only while nobody is here."""
    old, token = await links.make_first(services), await links.make_first(services)
    with pytest.raises(DeadLinkError):
        await people.come_first(services, old, ADA, "", PASSWORD, HERE, affirmed_16=True)
    with pytest.raises(AgeError):
        await people.come_first(services, token, ADA, "", PASSWORD, HERE, affirmed_16=False)
    begun = await people.come_first(services, token, ADA, "Ada", PASSWORD, HERE, affirmed_16=True)
    who = await sessions.signed_in(services, begun.cookie)
    assert who is not None
    assert who.operator
    late = await links.make_first(services)
    with pytest.raises(DeadLinkError):
        await people.come_first(services, late, "eve@example.org", "", PASSWORD, HERE, affirmed_16=True)


async def test_signing_up_says_the_same_whoever_is_here(mailing: Services) -> None:
    """A letter each time, to the address and to nobody else; a suspended person gets none."""
    await make_person(mailing.pool, "here@example.org")
    await make_person(mailing.pool, "gone@example.org", status="suspended")
    for address in ("new@example.org", "here@example.org", "gone@example.org", "new@example.org"):
        await people.sign_up(mailing, address, "Somebody", HERE, affirmed_16=True)
    assert await letters(mailing.pool) == [
        ("sign_up", "new@example.org", None),
        ("known", "here@example.org", None),
        ("known", None, "needless"),
        ("sign_up", "new@example.org", None),
    ]
    names = await mailing.pool.fetch("SELECT email, name, status FROM person ORDER BY email")
    assert [tuple(row) for row in names] == [
        ("gone@example.org", "", "suspended"),
        ("here@example.org", "", "active"),  # nobody else can change it
        ("new@example.org", "Somebody", "unverified"),
    ]
    with pytest.raises(WrongError):
        await signin.sign_in(mailing, "new@example.org", "", HERE)


async def test_who_signed_up_proves_the_address_and_has_an_account(mailing: Services) -> None:
    """By the link that a letter took there; the link of an operator would prove nothing."""
    await people.sign_up(mailing, "ada.l+x@example.org", "", HERE, affirmed_16=True)
    person_id = await mailing.pool.fetchval("SELECT person_id FROM person")
    async with mailing.pool.acquire() as connection:
        token = await links.make(connection, "setup", person_id=person_id, by_mail=True)
    begun = await people.set_password_by_link(mailing, token, PASSWORD, HERE)
    who = await sessions.signed_in(mailing, begun.cookie)
    assert who is not None
    (member,) = who.members
    assert member.role is Role.OWNER
    assert member.account.startswith("ada.lx-")
    assert await mailing.pool.fetchval("SELECT email_verified_at IS NOT NULL AND status = 'active' FROM person")
    assert "person.signed_up" in [row[0] for row in await mailing.pool.fetch("SELECT act FROM audit_entry")]


async def test_signing_up_needs_open_doors_and_the_affirmation(services: Services, mailing: Services) -> None:
    """A sentence, and nobody is made."""
    with pytest.raises(RefusedError, match="by invitation"):
        await people.sign_up(services, ADA, "", HERE, affirmed_16=True)
    with pytest.raises(AgeError):
        await people.sign_up(mailing, ADA, "", HERE, affirmed_16=False)
    assert not await table.anybody(services.pool)


async def test_asking_for_a_reset_says_nothing_about_who_is_here(services: Services, mailing: Services) -> None:
    """One row of the queue each time, a letter only for those who are; not more than a few to one address."""
    await make_person(mailing.pool, ADA)
    await make_person(mailing.pool, "gone@example.org", status="suspended")
    for address in (ADA, "nobody@example.org", "gone@example.org"):
        await people.ask_reset(mailing, address, HERE)
    assert await letters(mailing.pool) == [
        ("reset", ADA, None),
        ("reset", None, "needless"),
        ("reset", None, "needless"),
    ]
    for _ in range(4):
        await people.ask_reset(mailing, "nobody@example.org", HERE)
    with pytest.raises(ThrottledError):
        await people.ask_reset(mailing, "nobody@example.org", HERE)
    await people.ask_reset(mailing, "nobody@example.org", "198.51.100.0/24")
    with pytest.raises(RefusedError, match="No mail is sent"):
        await people.ask_reset(services, ADA, HERE)


async def test_a_new_address_is_proven_first(mailing: Services) -> None:
    """The letter goes to it; one that somebody has meanwhile is refused; the old one is told."""
    ada = await make_person(mailing.pool)
    who = await sessions.signed_in(mailing, await sessions.begin(mailing, ada, HERE))
    assert who is not None
    await people.ask_address(mailing, who, "Countess@example.org", HERE)
    assert await letters(mailing.pool) == [("address", "countess@example.org", None)]
    async with mailing.pool.acquire() as connection:
        token = await links.make(connection, "address", person_id=ada, by_mail=True, email="countess@example.org")
    taken = await make_person(mailing.pool, "countess@example.org")
    with pytest.raises(RefusedError, match="already"):
        await people.set_address_by_link(mailing, token)
    await mailing.pool.execute("DELETE FROM person WHERE person_id = $1", taken)
    assert await people.set_address_by_link(mailing, token) == "countess@example.org"
    assert (await table.find(mailing.pool, "countess@example.org")).email_verified_at is not None
    assert (await letters(mailing.pool))[-1][:2] == ("address_set", ADA)
    with pytest.raises(DeadLinkError):
        await people.set_address_by_link(mailing, token)


async def test_the_last_owner_cannot_be_suspended(services: Services) -> None:
    """But for what has to happen at once. With another owner it works, and nothing of the person works any more."""
    ada, eve = await make_person(services.pool, acme="owner"), await make_person(services.pool, "eve@example.org")
    with pytest.raises(LastOwnerError, match="last owner of acme"):
        await table.suspend(services.pool, ada)
    account = await accounts.get(services.pool, "acme")
    await services.pool.execute("INSERT INTO membership VALUES ($1, $2, 'owner')", eve, account.account_id)
    await services.pool.execute("UPDATE person SET status = 'suspended' WHERE person_id = $1", eve)
    with pytest.raises(LastOwnerError):  # an owner who cannot come in is none
        await table.suspend(services.pool, ada)
    await services.pool.execute("UPDATE person SET status = 'active' WHERE person_id = $1", eve)
    await give_password(services, ada)
    link = token_of((await people.reset(services, ADA)).link)
    cookie = await sessions.begin(services, ada, HERE)
    until = await services.pool.fetchval("SELECT now() + interval '1 day'")
    token = await tokens.create(services.pool, str(ada), "t", ["account:read"], until)
    assert await tokens.find_holder(services.pool, token.token.encode())
    await table.suspend(services.pool, ada)
    assert await sessions.signed_in(services, cookie) is None
    assert await tokens.find_holder(services.pool, token.token.encode()) is None
    with pytest.raises(DeadLinkError):
        await people.set_password_by_link(services, link, PASSWORD, HERE)
    with pytest.raises(WrongError):
        await signin.sign_in(services, ADA, PASSWORD, HERE)
    with pytest.raises(RefusedError, match="suspended"):
        await people.reset(services, ADA)
    await table.resume(services.pool, ada)
    assert await signin.sign_in(services, ADA, PASSWORD, HERE)
    await table.suspend(services.pool, eve)
    with pytest.raises(LastOwnerError):
        await table.suspend(services.pool, ada)
    await table.suspend(services.pool, ada, although_last_owner=True)


async def test_two_owners_cannot_leave_at_once(services: Services) -> None:
    """Whatever order: one stays."""
    ada, eve = await make_person(services.pool, acme="owner"), await make_person(services.pool, "eve@example.org")
    account = await accounts.get(services.pool, "acme")
    await services.pool.execute("INSERT INTO membership VALUES ($1, $2, 'owner')", eve, account.account_id)
    ends = await asyncio.gather(*(table.suspend(services.pool, one) for one in (ada, eve)), return_exceptions=True)
    assert sorted(isinstance(end, LastOwnerError) for end in ends) == [False, True]


async def test_two_operators_cannot_leave_at_once(services: Services) -> None:
    """Whatever order: one stays, and can let the other in again; a child's account is closed all the same."""
    both = [await make_person(services.pool, f"{name}@example.org", operator=True) for name in ("ada", "eve")]
    ends = await asyncio.gather(*(table.suspend(services.pool, one) for one in both), return_exceptions=True)
    refused = [end for end in ends if isinstance(end, RefusedError)]
    assert [end.code for end in refused] == ["last_operator"]
    assert "people operator" in str(refused[0])
    for one in both:
        await table.suspend(services.pool, one, although_last_owner=True)
    assert await services.pool.fetchval("SELECT count(*) FROM person WHERE status = 'suspended'") == 2


async def test_an_unknown_person_is_a_sentence(services: Services) -> None:
    """What was typed is not said again."""
    for address in ("nobody@example.org", "no address", ""):
        with pytest.raises(RefusedError) as caught:
            await people.reset(services, address)
        assert "nobody@" not in str(caught.value)
    assert await table.by_id(services.pool, uuid.uuid4()) is None
