"""Letters at a real SMTP server: taken, refused, put off, broken off; never over a connection that is not verified."""

import asyncio
import datetime
import ssl
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from luntrex_proxy import chores
from luntrex_proxy.cli.doctor import _MAIL_SAYS
from luntrex_proxy.control import letters, mailing, members, people, sessions
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.mailing import Delivered, Postman
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.roles import Role
from luntrex_proxy.settings.people import Mail
from luntrex_proxy.store import accounts, incidents
from luntrex_proxy.store import mail as queue
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from tests.mailserver import MailServer
from tests.people import PASSWORD, give_password, make_person, services_of
from tests.upstreams.certificates import Authority
from tests.whole.daemon import free_port

ADA = "ada@example.org"


@pytest.fixture
async def servers() -> AsyncIterator[list[MailServer]]:
    """Those that a test started; they end with it."""
    started: list[MailServer] = []
    yield started
    for server in started:
        await server.stop()


@pytest.fixture
async def server(servers: list[MailServer]) -> MailServer:
    servers.append(await MailServer().start())
    return servers[0]


def reaching(pool: Pool, directory: Path, port: int, **mail: Any) -> Services:
    plain = {"host": "127.0.0.1", "port": port, "security": "none", "sender": "proxy@example.org"}
    console = {"public_url": "https://proxy.example.org", "sign_up": "open"}
    alerts = {"mail_to": ["x@example.org"]}
    return services_of(pool, directory, mail=plain | mail, console=console, alerts=alerts)


async def send(services: Services) -> list[Delivered]:
    """One turn, with everything due."""
    await services.pool.execute("UPDATE mail SET due_at = now() WHERE ended_at IS NULL")
    return await Postman(services, time.time).send_due()


async def asked(services: Services, address: str = ADA) -> None:
    await make_person(services.pool, address)
    await people.ask_reset(services, address, "local")


async def ended(pool: Pool) -> list[tuple[str | None, str | None, str | None]]:
    rows = await pool.fetch("SELECT outcome, last_error, address FROM mail ORDER BY queued_at")
    return [tuple(row) for row in rows]


async def test_a_letter_is_taken(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """Its link works once and was in no table before; the letter says who sent it and to whom, and nothing else."""
    services = reaching(database, tmp_path, server.port)
    await asked(services)
    assert await database.fetchval("SELECT count(*) FROM one_time_link") == 0
    assert await send(services) == [Delivered("sent", "")]
    (letter,) = server.got
    mail_id = await database.fetchval("SELECT mail_id FROM mail")
    assert letter["From"] == "luntrex-proxy <proxy@example.org>"
    assert letter["To"] == ADA
    assert letter["Message-ID"] == f"<{mail_id}@example.org>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert set(letter) - {"X-Peer", "X-MailFrom", "X-RcptTo"} == {
        "From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted",
        "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
    }  # fmt: skip
    (token,) = server.tokens()
    dumped = str([tuple(row) for row in await database.fetch("SELECT * FROM one_time_link")])
    dumped += str([tuple(row) for row in await database.fetch("SELECT * FROM mail")])
    assert token not in dumped
    assert await people.set_password_by_link(services, token, PASSWORD, "local")
    assert await database.fetchval("SELECT email_verified_at IS NOT NULL FROM person")
    assert await ended(database) == [("sent", None, None), (None, None, None)]  # and a notice that it was changed


async def test_every_letter_can_be_made(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """Each kind there is, with the link that it needs; what has become needless is not sent."""
    services = reaching(database, tmp_path, server.port)
    ada = await make_person(database, acme="owner")
    new = await make_person(database, "new@example.org", status="unverified")
    who = Person(str(ada), roles={(await accounts.get(database, "acme")).account_id: Role.OWNER})
    invitation, _ = await members.invite(services, who, next(iter(who.roles)), "x@example.org", Role.VIEWER)
    facts: dict[str, Any] = {
        "address": {"person": str(ada)},
        "invitation": {"invitation": str(invitation.invitation_id)},
        "attempts": {"minutes": 10, "alerts": ["key K: 21"], "more": 0},
        "key_attempts": {"minutes": 10, "key_id": "K", "count": 21},
        "member_requests": {"account": next(iter(who.roles)), "shown": True, "since": "2026-10-01 09:00"},
    }
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    facts["incident"] = {"incident_id": (await incidents.open_(database, "A leak", now)).incident_id}
    strangers = {"invitation", "address", "address_set", "attempts", "child_erasure", "child_answer"}
    await database.execute("DELETE FROM mail")
    kinds = letters.LETTERS.keys() - {"rights_confirm"}  # which goes with a request: tests of rights
    for kind in kinds:
        to: uuid.UUID | str = new if kind == "sign_up" else ada
        to = "x@example.org" if kind in strangers else to
        async with database.acquire() as connection:
            await queue.enqueue(connection, kind, to, facts.get(kind))
    assert [one.outcome for one in await send(services)] == ["sent"] * len(kinds)
    texts = " ".join(one.get_payload() for one in server.got)
    assert texts.count("/link?token=") == 5
    assert "acme, as its viewer" in texts
    assert "Owners of acme see your single requests" in [one["Subject"] for one in server.got]
    assert "It counts for requests since 2026-10-01 09:00 UTC." in texts
    await database.execute("DELETE FROM mail")
    for kind in kinds - {"incident"}:  # of which the suspended are told as well
        async with database.acquire() as connection:
            await queue.enqueue(connection, kind, ada if kind != "invitation" else "x@example.org", facts.get(kind))
    await database.execute("UPDATE person SET status = 'suspended'")
    await database.execute("DELETE FROM invitation")
    assert {one.outcome for one in await send(services)} == {"needless"}
    assert len(server.got) == len(kinds)


async def test_what_waited_while_the_password_changed_changes_no_address(
    database: Pool, tmp_path: Path, server: MailServer
) -> None:
    """Somebody else asked for it, whose server took the letter later: it would let them back in."""
    services = reaching(database, tmp_path, server.port)
    ada = await make_person(database, ADA)
    who = await sessions.signed_in(services, await sessions.begin(services, ada, "local"))
    assert who is not None
    await people.ask_address(services, who, "mallory@example.org", "local")
    server.answers["RCPT"] = "450 come back later"
    assert await send(services) == [Delivered("later", "not_now")]
    await give_password(services, ada)
    server.answers["RCPT"] = "250 fine"
    assert await send(services) == []
    assert await ended(database) == [("needless", "not_now", None)]
    assert server.got == []
    assert await database.fetchval("SELECT count(*) FROM one_time_link WHERE used_at IS NULL") == 0


async def test_words_of_an_incident_reach_people(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """In whatever script, and however long their lines are; a letter that cannot be made stops no other."""
    services = reaching(database, tmp_path, server.port)
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    told = {"nature": "Schlüssel wurden gelesen. " * 60, "consequences": "x" * 2_000, "measures": "Nous avons changé."}
    facts = {"incident_id": (await incidents.open_(database, "Ein Abfluß", now, (), told)).incident_id}
    ada = await make_person(database, acme="owner")
    async with database.acquire() as connection:
        await queue.enqueue(connection, "incident", ada, facts)
    assert await send(services) == [Delivered("sent", "")]
    (letter,) = server.got
    said = bytes(letter.get_payload(decode=True)).decode()
    assert "Schlüssel wurden gelesen." in said
    assert "x" * 2_000 in said
    assert max(map(len, letter.as_bytes().splitlines())) <= 998


async def test_a_letter_that_cannot_be_made_stops_no_other(
    database: Pool, tmp_path: Path, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault of ours; the next one goes out."""
    services = reaching(database, tmp_path, server.port)
    made, failed = letters.as_message, asyncio.Event()

    def fail_once(*arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise UnicodeError
        return made(*arguments)

    monkeypatch.setattr(letters, "as_message", fail_once)
    monkeypatch.setattr(chores, "_MAIL_EVERY_S", 0.01)
    for number in range(2):
        await asked(services, f"{number}@example.org")
    task = asyncio.create_task(chores.send_mail(Postman(services, time.time)))
    async with asyncio.timeout(20):
        while not server.got and not task.done():
            await asyncio.sleep(0.01)
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize(
    ("command", "answer", "outcome"),
    [
        ("RCPT", "550 no such user here", Delivered("refused", "refused")),
        ("DATA", "554 no spam please", Delivered("refused", "refused")),
        ("RCPT", "450 come back later", Delivered("later", "not_now")),
        ("DATA", "451 come back later", Delivered("later", "not_now")),
    ],
)
async def test_a_server_that_says_no(
    database: Pool, tmp_path: Path, server: MailServer, command: str, answer: str, outcome: Delivered
) -> None:
    """For good: it is over. For now: later, after longer and longer. Its words are kept nowhere."""
    services = reaching(database, tmp_path, server.port)
    await asked(services)
    server.answers[command] = answer
    assert await send(services) == [outcome]
    ((ending, reason, _),) = await ended(database)
    assert reason == outcome.reason
    if outcome.outcome == "refused":
        assert ending == "refused"
        return
    waits = []
    for _ in range(3):
        waits.append(await database.fetchval("SELECT round(extract(epoch FROM due_at - now()) / 60) FROM mail"))
        await send(services)
    assert waits == [1, 2, 4]
    server.answers[command] = "250 fine"
    assert await send(services) == [Delivered("sent", "")]


async def test_a_server_that_is_away(database: Pool, tmp_path: Path) -> None:
    """Tried again, and given up after a day."""
    services = reaching(database, tmp_path, free_port())
    await asked(services)
    assert await send(services) == [Delivered("later", "unreachable")]
    await database.execute("UPDATE mail SET queued_at = now() - interval '25 hours'")
    assert await send(services) == []
    assert await ended(database) == [("given_up", "unreachable", None)]


async def test_a_connection_that_breaks_after_the_text(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """Nobody knows whether it was taken: once more, with the same Message-ID, and not a third time."""
    services = reaching(database, tmp_path, server.port)
    await asked(services)
    server.break_off = True
    for _ in range(2):
        assert await send(services) == [Delivered("unknown", "broken_off")]
    assert await send(services) == []
    assert await ended(database) == [("unknown", None, None)]
    assert len(server.got) == 2
    assert server.got[0]["Message-ID"] == server.got[1]["Message-ID"]
    first, second = server.tokens()
    assert await people.set_password_by_link(services, first, PASSWORD, "local")
    with pytest.raises(people.links.DeadLinkError):
        await people.set_password_by_link(services, second, PASSWORD + " anew", "local")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_only_verified_tls(database: Pool, tmp_path: Path, servers: list[MailServer], security: str) -> None:
    """A certificate of an unknown authority or another name gets no address and no text; the right one does."""
    authority = Authority(tmp_path)
    right, wrong = authority.server_context("127.0.0.1"), authority.server_context("elsewhere.example")
    for context in (wrong, right):
        options = {"tls": context} if security == "tls" else {"tls_context": context, "require_starttls": True}
        servers.append(await MailServer().start(**options))
    services = reaching(database, tmp_path, servers[0].port, security=security, ca_file=str(authority.ca_file))
    await asked(services)
    assert await send(services) == [Delivered("later", "certificate")]
    stranger = reaching(database, tmp_path, servers[1].port, security=security)
    assert await send(stranger) == [Delivered("later", "certificate")]
    assert servers[0].got == servers[1].got == []
    good = reaching(database, tmp_path, servers[1].port, security=security, ca_file=str(authority.ca_file))
    assert await send(good) == [Delivered("sent", "")]


async def test_a_server_without_starttls_gets_nothing(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """No letter goes in the clear because somebody on the way took the offer out."""
    services = reaching(database, tmp_path, server.port, security="starttls")
    await asked(services)
    assert await send(services) == [Delivered("later", "not_offered")]
    assert server.got == []


async def test_signing_in_at_the_server(database: Pool, tmp_path: Path, servers: list[MailServer]) -> None:
    """With user and password, over TLS; a wrong one is tried again later, and is said nowhere."""
    authority = Authority(tmp_path)

    def check(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=data.login == b"proxy" and data.password == b"right", handled=False)

    options = {"tls_context": authority.server_context("127.0.0.1"), "require_starttls": True}
    servers.append(await MailServer().start(authenticator=check, auth_required=True, **options))
    secure = {"security": "starttls", "ca_file": str(authority.ca_file), "user": "proxy"}
    wrong = reaching(database, tmp_path, servers[0].port, password="a-wrong-secret", **secure)
    await asked(wrong)
    assert await send(wrong) == [Delivered("later", "sign_in_refused")]
    assert "a-wrong-secret" not in str(await database.fetch("SELECT * FROM mail"))
    assert await send(reaching(database, tmp_path, servers[0].port, password="right", **secure)) == [
        Delivered("sent", "")
    ]


async def test_doctor_looks_at_the_server(database: Pool, tmp_path: Path, servers: list[MailServer]) -> None:
    """As a letter would go there, and sends none; every way it can fail has its sentence."""
    authority = Authority(tmp_path)
    right = await MailServer().start(tls_context=authority.server_context("127.0.0.1"), require_starttls=True)
    plain, wrong = (
        await MailServer().start(),
        await MailServer().start(tls=authority.server_context("elsewhere.example")),
    )
    servers += [right, plain, wrong]
    secure = {"ca_file": str(authority.ca_file)}
    for port, security, says in (
        (right.port, "starttls", ""),
        (plain.port, "none", ""),
        (plain.port, "starttls", "not_offered"),
        (wrong.port, "tls", "certificate"),
        (plain.port, "tls", "tls"),
        (free_port(), "none", "unreachable"),
    ):
        settings = reaching(database, tmp_path, port, security=security, **secure).settings
        assert await mailing.look(settings) == says, (port, security)
        assert says in ("", *_MAIL_SAYS)
    assert all(server.got == [] for server in servers)


async def test_one_process_sends_at_a_time(database: Pool, tmp_path: Path, server: MailServer) -> None:
    """The others leave it to that one; each letter is sent once."""
    services = reaching(database, tmp_path, server.port)
    for number in range(5):
        await asked(services, f"{number}@example.org")
    async with queue.turn(database) as is_ours:
        assert is_ours
        assert await send(services) == []
    turns = await asyncio.gather(*(Postman(services, time.time).send_due() for _ in range(4)))
    assert sum(len(turn) for turn in turns) == 5
    assert len(server.got) == 5


async def test_nothing_that_a_stranger_writes_is_in_a_letter(
    database: Pool, tmp_path: Path, server: MailServer
) -> None:
    """Or everybody could let us say anything to anybody."""
    services = reaching(database, tmp_path, server.port)
    await people.sign_up(services, "x@example.org", "You won! http://evil.example", "local", affirmed_16=True)
    await send(services)
    assert "evil" not in server.got[0].as_string()


def test_authorities_that_cannot_be_read_are_a_sentence(database: Pool, tmp_path: Path) -> None:
    """At the start, not at the first letter."""
    services = reaching(database, tmp_path, 1, security="tls", ca_file=str(tmp_path / "none.pem"))
    with pytest.raises(StoreError, match="ca_file of mail"):
        Postman(services, time.time)


def test_tls_is_verified_by_default() -> None:
    """Also without a ca_file."""
    context = mailing._tls_of(Mail())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
