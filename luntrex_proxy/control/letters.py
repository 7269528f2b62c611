"""What letters say, made at the moment they are sent: a link in one exists nowhere before. What sends them: mailing.py.

To add a letter: a function here that returns a `Letter`, or None when there is nobody to tell any more, and its row in
`LETTERS`; `store.mail.enqueue(connection, kind, person_id or address, facts)` queues it in the transaction of what it
tells of. Facts are ids, numbers and fixed words. Nothing that a stranger can write goes into a letter: it would be our
words to whoever gets it.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final
from urllib.parse import urlsplit

from luntrex_proxy.control import links, rightsform
from luntrex_proxy.control.incidents import contact_of
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.consents import Purpose, text_of
from luntrex_proxy.core.incidents import to_people
from luntrex_proxy.store import accounts, consents, incidents, mail, members, people
from luntrex_proxy.store.database import store_errors
from luntrex_proxy.store.mail import Queued
from luntrex_proxy.store.people import PersonInfo

_NOT_YOU: Final = "If you did not ask for this, nothing happens; you can delete this letter."
_WAS_NOT_YOU: Final = "If this was not you, ask whoever runs the installation for help at once."
_LINE_BYTES_MAX: Final = 998  # RFC 5321 section 4.5.3.1.6, without its end


@dataclass(frozen=True, slots=True)
class Letter:
    """One letter: to whom, and its paragraphs."""

    to: str = field(repr=False)
    subject: str
    paragraphs: tuple[str, ...] = field(repr=False)


async def compose(services: Services, queued: Queued) -> Letter | None:
    """The letter that is queued; None: it has become needless."""
    make = LETTERS.get(queued.kind)
    return None if make is None else await make(services, queued)


def as_message(services: Services, queued: Queued, letter: Letter, now: float) -> EmailMessage:
    """The letter as mail. Sent again, it has the same Message-ID, so that mailboxes can tell."""
    sender = services.settings.mail.sender or ""
    message = EmailMessage()
    message["From"] = f"luntrex-proxy <{sender}>"
    message["To"] = letter.to
    message["Subject"] = " ".join(letter.subject.split())
    message["Date"] = formatdate(now)
    message["Message-ID"] = f"<{queued.mail_id}@{sender.partition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    host = urlsplit(links.console_url(services.settings)).netloc
    text = "\n\n".join((*letter.paragraphs, f"-- \nluntrex-proxy at {host}")) + "\n"
    # Lines as they are: a link that is broken into two by an encoding is none in some mail programs. Only what people
    # wrote about an incident may have other letters, or lines that no server takes.
    as_it_is = text.isascii() and max(map(len, text.splitlines())) <= _LINE_BYTES_MAX
    message.set_content(text, cte="7bit" if as_it_is else "quoted-printable")
    return message


async def _setup(services: Services, queued: Queued) -> Letter | None:
    return await _with_link(
        services, queued, "setup", "Your account at luntrex-proxy",
        "You were made a member here. Set your password within a day:",
    )  # fmt: skip


async def _sign_up(services: Services, queued: Queued) -> Letter | None:
    return await _with_link(
        services, queued, "setup", "Sign up at luntrex-proxy",
        "Somebody, hopefully you, wants to sign up here with this address. Set your password within a day:", _NOT_YOU,
        statuses=("unverified",),
    )  # fmt: skip


async def _known(services: Services, queued: Queued) -> Letter | None:
    person = await _person(services, queued)
    if person is None:
        return None
    return Letter(
        person.email, "Sign up at luntrex-proxy",
        (
            "Somebody, hopefully you, wants to sign up here with this address, which is known here already. Sign in:",
            f"{links.console_url(services.settings)}/sign-in", _NOT_YOU,
        ),
    )  # fmt: skip


async def _reset(services: Services, queued: Queued) -> Letter | None:
    return await _with_link(
        services, queued, "reset", "Another password for luntrex-proxy",
        "Somebody, hopefully you, wants to set another password for this address. Do so within an hour:", _NOT_YOU,
    )  # fmt: skip


async def _password_set(services: Services, queued: Queued) -> Letter | None:
    return await _notice(
        services, queued, "Your password was changed", "The password of your account here was changed."
    )


async def _factor_changed(services: Services, queued: Queued) -> Letter | None:
    return await _notice(
        services, queued, "Your second factor was changed", "The second factor of your account here was changed."
    )


async def _invitation(services: Services, queued: Queued) -> Letter | None:
    found = await members.invitation(services.pool, uuid.UUID(str(queued.facts.get("invitation", ""))))
    if found is None or queued.address is None:
        return None
    with store_errors("make the link"):
        async with services.pool.acquire() as connection, connection.transaction():
            token = await links.make(connection, "invitation", invitation_id=found.invitation_id, by_mail=True)
    seen = await consents.since(services.pool, [found.account_id], Purpose.MEMBER_REQUESTS)
    told = ("Owners of this account see single requests that members make with their own keys, as metadata.",)
    return Letter(
        queued.address, f"Invitation to {found.account} at luntrex-proxy",
        (
            f"You are invited to the account {found.account}, as its {found.role}. Take it up within a week:",
            _url(services, token), *(told if seen else ()),
            "If you do not know what this is about, you can delete this letter.",
        ),
    )  # fmt: skip


async def _address(services: Services, queued: Queued) -> Letter | None:
    person = await people.by_id(services.pool, uuid.UUID(str(queued.facts.get("person", ""))))
    if person is None or queued.address is None or person.status == "suspended":
        return None
    with store_errors("make the link"):
        async with services.pool.acquire() as connection, connection.transaction():
            if not await mail.is_wanted(connection, queued.mail_id):
                return None
            token = await links.make(
                connection, "address", person_id=person.person_id, by_mail=True, email=queued.address
            )
    return Letter(
        queued.address, "Your new address for luntrex-proxy",
        ("This is to become the address of an account here. Confirm it within a day:", _url(services, token), _NOT_YOU),
    )  # fmt: skip


async def _address_set(_services: Services, queued: Queued) -> Letter | None:
    if queued.address is None:
        return None
    return Letter(
        queued.address, "Your address was changed", ("Your account here has another mail address now.", _WAS_NOT_YOU)
    )


async def _rights_confirm(services: Services, queued: Queued) -> Letter | None:
    link = await rightsform.link_for(services, str(queued.facts.get("request", "")))
    if link is None or queued.address is None:
        return None
    return Letter(
        queued.address, "Your request about your data",
        ("Somebody, hopefully you, asked here about the data of this address. Confirm it by tomorrow:", link, _NOT_YOU),
    )  # fmt: skip


async def _idle_account(services: Services, queued: Queued) -> Letter | None:
    person, erased_on = await _person(services, queued), str(queued.facts.get("erased_on", ""))
    if person is None:
        return None
    return Letter(
        person.email, "An account of yours is not used any more",
        (
            f"Nobody has used an account of which you are an owner for long, so it is erased on {erased_on}. "
            "To keep it, sign in before that day:",
            f"{links.console_url(services.settings)}/sign-in",
        ),
    )  # fmt: skip


async def _attempts(services: Services, queued: Queued) -> Letter | None:
    """To an address of the operator's, while it is one."""
    if queued.address not in services.settings.alerts.mail_to:
        return None
    more = int(queued.facts.get("more", 0))
    return Letter(
        queued.address, "Many requests with wrong keys",
        (
            f"In {int(queued.facts['minutes'])} minutes so many requests were refused for their key:",
            "\n".join(map(str, queued.facts["alerts"])) + (f"\nand {more} more" if more else ""),
            "They were all blocked. By the minute:",
            f"{links.console_url(services.settings)}/attempts",
        ),
    )  # fmt: skip


async def _key_attempts(services: Services, queued: Queued) -> Letter | None:
    person = await _person(services, queued)
    if person is None:
        return None
    return Letter(
        person.email, "Somebody tries a key of your account",
        (
            f"{int(queued.facts['count'])} requests in {int(queued.facts['minutes'])} minutes named the key "
            f"{queued.facts['key_id']} and were blocked: its secret was wrong, or it is revoked.",
            "If a program of yours has an old or mistyped key, give it the right one; else there is nothing to do.",
        ),
    )  # fmt: skip


async def _incident(services: Services, queued: Queued) -> Letter | None:
    person = None if queued.person_id is None else await people.by_id(services.pool, queued.person_id)
    if person is None or "incident_id" not in queued.facts:  # the suspended are told as well: it is their data
        return None
    incident, _ = await incidents.get(services.pool, int(queued.facts["incident_id"]))
    text = to_people(incident, contact_of(services.settings))
    subject, *paragraphs = (part.lstrip("# ") for part in text.strip().split("\n\n"))
    return Letter(person.email, subject, tuple(paragraphs))


async def _subprocessor(services: Services, queued: Queued) -> Letter | None:
    person = await _person(services, queued)
    if person is None:
        return None
    return Letter(
        person.email, "Who else processes your data: a change",
        (
            f"On {queued.facts.get('from', '')} a change to the sub-processor {queued.facts.get('name', '')} takes "
            "effect. You can object to it until then and at any time later; then nothing of your account goes there.",
            f"The list: {links.console_url(services.settings)}/subprocessors",
        ),
    )  # fmt: skip


async def _member_requests(services: Services, queued: Queued) -> Letter | None:
    person, account_id = await _person(services, queued), int(queued.facts.get("account", 0))
    account = await accounts.by_id(services.pool, account_id)
    if person is None or account is None or await members.role_of(services.pool, account_id, person.person_id) is None:
        return None
    since = str(queued.facts.get("since", ""))
    if not queued.facts.get("shown"):
        return Letter(
            person.email, f"Your requests in {account.name} are for your own eyes again",
            (
                f"Since {since} UTC nobody else sees single requests that you make with your own keys in the account "
                f"{account.name}, those of before neither. Its owners see sums.",
            ),
        )  # fmt: skip
    return Letter(
        person.email, f"Owners of {account.name} see your single requests",
        (
            f"An owner of the account {account.name} has agreed to this for it: {text_of(Purpose.MEMBER_REQUESTS)}",
            f"It counts for requests since {since} UTC. Whether it is still so, and who to ask about your data:",
            f"{links.console_url(services.settings)}/your-data",
        ),
    )  # fmt: skip


async def _child_report(services: Services, queued: Queued) -> Letter | None:
    person = await _person(services, queued)
    if person is None:
        return None
    return Letter(
        person.email, "A report that somebody here is under 16",
        (
            "It waits for a decision. Of a confirmed one the person is erased a day later, within 72 hours at most.",
            f"{links.console_url(services.settings)}/child-reports",
        ),
    )  # fmt: skip


async def _child_erasure(_services: Services, queued: Queued) -> Letter | None:
    if queued.address is None:
        return None
    return Letter(
        queued.address, "Your account is closed",
        (
            "It was reported and confirmed that you are under 16. Nobody under 16 may have an account here, so it is "
            "closed from now on and everything about you is erased within 72 hours. If that is a mistake, ask whoever "
            "runs the installation within a day.",
        ),
    )  # fmt: skip


async def _child_answer(_services: Services, queued: Queued) -> Letter | None:
    if queued.address is None:
        return None
    sentence = "The report that you sent here was looked at. Whatever there was to do has been done."
    return Letter(queued.address, "Your report", (sentence,))


LETTERS: Final[Mapping[str, Callable[[Services, Queued], Awaitable[Letter | None]]]] = {
    "setup": _setup,
    "sign_up": _sign_up,
    "known": _known,
    "reset": _reset,
    "password_set": _password_set,
    "factor_changed": _factor_changed,
    "invitation": _invitation,
    "address": _address,
    "address_set": _address_set,
    "incident": _incident,
    "subprocessor_change": _subprocessor,
    "member_requests": _member_requests,
    "child_report": _child_report,
    "child_erasure": _child_erasure,
    "child_answer": _child_answer,
    rightsform.LETTER: _rights_confirm,
    "idle_account": _idle_account,
    "attempts": _attempts,
    "key_attempts": _key_attempts,
}


async def _person(services: Services, queued: Queued) -> PersonInfo | None:
    person = None if queued.person_id is None else await people.by_id(services.pool, queued.person_id)
    return None if person is None or person.status == "suspended" else person


async def _notice(services: Services, queued: Queued, subject: str, sentence: str) -> Letter | None:
    person = await _person(services, queued)
    return None if person is None else Letter(person.email, subject, (sentence, _WAS_NOT_YOU))


async def _with_link(
    services: Services,
    queued: Queued,
    kind: str,
    subject: str,
    sentence: str,
    *after: str,
    statuses: tuple[str, ...] = (),
) -> Letter | None:
    person = await _person(services, queued)
    if person is None or (statuses and person.status not in statuses):
        return None
    with store_errors("make the link"):
        async with services.pool.acquire() as connection, connection.transaction():
            token = await links.make(connection, kind, person_id=person.person_id, by_mail=True)
    return Letter(person.email, subject, (sentence, _url(services, token), *after))


def _url(services: Services, token: str) -> str:
    return links.url_of(links.console_url(services.settings), token)
