"""How people come to be here and back in: made by the operator, signed up, invited, reset. Signing in is signin.py.

Whoever makes a link for somebody else gets it to hand on, unless there is mail: then a letter takes it there and nobody
else sees it. Every door asks for the affirmation of being 16 or older.
"""

import uuid
from dataclasses import dataclass, field

from luntrex_proxy.control import acts, links
from luntrex_proxy.control.access import DeniedError, NotFoundError, Person
from luntrex_proxy.control.guessing import trying
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn, new_token, token_hash
from luntrex_proxy.control.signin import Begun
from luntrex_proxy.core.people import ADDRESS_RULE, NAME_RULE, read_address, read_name
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import accounts, mail, members, sessions, totp
from luntrex_proxy.store import links as link_table
from luntrex_proxy.store import people as table
from luntrex_proxy.store.changes import hold_changes
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.joined import joined
from luntrex_proxy.store.lastones import LastOwnerError
from luntrex_proxy.store.once import claimed
from luntrex_proxy.store.people import PersonInfo

__all__ = [
    "AgeError",
    "Handover",
    "LastOwnerError",
    "PersonInfo",
    "addresses",
    "create",
    "find",
    "get",
    "list_page",
    "reset",
    "resume",
    "suspend",
]
addresses, find, list_page = table.addresses, table.find, table.list_page
resume, suspend = table.resume, table.suspend


class AgeError(RefusedError):
    """Nobody affirmed that the person is 16 or older."""

    def __init__(self) -> None:
        super().__init__(
            "This service is for people of 16 and older; affirm it, or leave nothing here.", "not_affirmed_16"
        )


@dataclass(frozen=True, slots=True)
class Handover:
    """How a link gets to its person: by a letter, or (`link`) by whoever made it."""

    email: str
    link: str | None = field(repr=False)  # None: a letter takes it


# By the operator, and by the command line.


async def create(
    services: Services,
    address: str,
    name: str = "",
    *,
    affirmed_16: bool,
    operator: bool = False,
    account: str | None = None,
    role: Role = Role.OWNER,
    by: Person | None = None,
) -> Handover:
    """Make a person, in an account at once if one is named. RefusedError, AgeError.

    `by`: who asks, but for the command line, which may make owners anywhere. DeniedError.
    """
    email, named = checked_address(address), checked_name(name)
    if not affirmed_16:
        raise AgeError
    known = None if account is None else await accounts.get(services.pool, account)
    with store_errors("make the person"):
        async with services.pool.acquire() as connection, connection.transaction(), claimed(connection) as claim:
            if known is not None and by is not None:
                await hold_changes(connection)
                await refuse_owners(joined(connection), by, known.account_id, role)
            person_id = await table.create(connection, email, named, operator=operator)
            claim.object_id = str(person_id)
            if known is not None:
                await members.put(connection, known.account_id, person_id, role.value)
            return await hand_over(services, connection, email, "setup", person_id)


async def refuse_owners(pool: Pool, person: Person, account_id: int, *roles: Role) -> None:
    """DeniedError: an owner is concerned, and who asks is none. The operator may give an account its first one."""
    if Role.OWNER not in roles or person.roles.get(account_id) is Role.OWNER:
        return
    if not person.operator or await members.has_owner(pool, account_id):
        raise DeniedError


async def get(pool: Pool, person_id: uuid.UUID) -> PersonInfo:
    """The person of this id; NotFoundError: there is none."""
    found = await table.by_id(pool, person_id)
    if found is None:
        raise NotFoundError
    return found


async def reset(services: Services, address: str, *, second_factor: bool = False) -> Handover:
    """A link to set a new password by; the old one works until then. `second_factor`: and no code is asked for."""
    person = await table.find(services.pool, address)
    if person.status == "suspended":
        raise RefusedError("This person is suspended; resume them first.", "suspended")
    with store_errors("reset the person"):
        async with services.pool.acquire() as connection, connection.transaction():
            if second_factor:
                await totp.remove(connection, person.person_id)
            return await hand_over(services, connection, person.email, "reset", person.person_id)


async def hand_over(
    services: Services, connection: Connection, email: str, kind: str, person_id: uuid.UUID
) -> Handover:
    """A letter with a link, or the link itself, in the caller's transaction."""
    await acts.record(connection, f"{kind}_link.made", str(person_id))
    if services.sends_mail:
        await mail.enqueue(connection, kind, person_id)
        return Handover(email, None)
    token = await links.make(connection, kind, person_id=person_id)
    return Handover(email, links.url_of(links.console_url(services.settings), token))


# By people themselves, whom nobody knows yet: the same answer and the same work whoever is here.


async def sign_up(services: Services, address: str, name: str, network: str, *, affirmed_16: bool) -> None:
    """A letter goes to the address: to set a password, or that there is one already. RefusedError, AgeError."""
    if services.settings.console.sign_up != "open":
        raise RefusedError("Signing up is by invitation here; ask whom you work with.", "no_sign_up")
    email, named = checked_address(address), checked_name(name)
    if not affirmed_16:
        raise AgeError
    async with trying(services, "letter", email, network):
        with store_errors("sign up"):
            async with services.pool.acquire() as connection, connection.transaction():
                person_id, status = await table.sign_up(connection, email, named)
                if status == "suspended":
                    await mail.enqueue_none(connection, "known")
                else:
                    await mail.enqueue(connection, "sign_up" if status == "unverified" else "known", person_id)


async def ask_reset(services: Services, address: str, network: str) -> None:
    """A letter goes to the address, if somebody has it. RefusedError: it is no address, or there is no mail."""
    if not services.sends_mail:
        raise RefusedError("No mail is sent from here; ask whoever runs this installation for a link.", "no_mail")
    email = checked_address(address)
    async with trying(services, "letter", email, network):
        found = await table.credentials(services.pool, email)
        with store_errors("reset the person"):
            async with services.pool.acquire() as connection, connection.transaction():
                if found is None or found.status == "suspended":
                    await mail.enqueue_none(connection, "reset")
                else:
                    kind = "sign_up" if found.status == "unverified" else "reset"
                    await mail.enqueue(connection, kind, found.person_id)


# By a link.


async def come_first(
    services: Services, token: str, address: str, name: str, password: str, network: str, *, affirmed_16: bool
) -> Begun:
    """The first person of an installation comes in, and runs it. DeadLinkError, RefusedError, AgeError."""
    email, named = checked_address(address), checked_name(name)
    if not affirmed_16:
        raise AgeError
    services.passwords.refuse_weak(password, email, named, has_totp=False)
    await links.look_at(services, token)
    hashed, fingerprint = await services.passwords.hashed(password, network)
    with store_errors("make the person"):
        async with services.pool.acquire() as connection, connection.transaction():
            await link_table.use(connection, token_hash(token), "first")
            if await table.anybody(connection):
                raise links.DeadLinkError
            with acts.acting_as("first link"):
                person_id = await table.create(connection, email, named, operator=True)
                await table.set_password(connection, person_id, hashed, fingerprint)
            return await _begin(connection, person_id, network)


async def set_password_by_link(services: Services, token: str, password: str, network: str) -> Begun:
    """A setup or reset link lets set a password, and is used up. Who has a second factor is still asked for it."""
    link = await links.look_at(services, token)
    person = await of_link(services, link, "setup", "reset")
    services.passwords.refuse_weak(password, person.email, person.name, has_totp=person.has_totp)
    hashed, fingerprint = await services.passwords.hashed(password, network)
    with store_errors("set the password"), acts.acting_as(f"console:{person.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            used = await link_table.use(connection, link.token_hash, "setup", "reset")
            if used.by_mail and await table.verified(connection, person.person_id):
                await _own_account(connection, person)
            await table.set_password(connection, person.person_id, hashed, fingerprint)
            if services.sends_mail and link.kind == "reset":
                await mail.enqueue(connection, "password_set", person.person_id)
            awaits_code = await totp.is_in_use(connection, person.person_id)  # set meanwhile, it counts
            return await _begin(connection, person.person_id, network, awaits_code=awaits_code)


async def come_invited(
    services: Services, token: str, name: str, password: str, network: str, *, affirmed_16: bool
) -> Begun:
    """Somebody who is not here yet takes up an invitation. RefusedError: the address is somebody's here: sign in."""
    named = checked_name(name)
    if not affirmed_16:
        raise AgeError
    link = await links.look_at(services, token)
    invitation = None if link.invitation_id is None else await members.invitation(services.pool, link.invitation_id)
    if invitation is None:
        raise links.DeadLinkError
    services.passwords.refuse_weak(password, invitation.email, named, has_totp=False)
    hashed, fingerprint = await services.passwords.hashed(password, network)
    with store_errors("take up the invitation"), acts.acting_as("invitation"):
        async with services.pool.acquire() as connection, connection.transaction():
            await link_table.use(connection, link.token_hash, "invitation")
            person_id = await table.create(connection, invitation.email, named)
            if link.by_mail:
                await table.verified(connection, person_id)
            await members.take_up(connection, invitation.invitation_id, person_id, invitation.email)
            await table.set_password(connection, person_id, hashed, fingerprint)
            return await _begin(connection, person_id, network)


async def ask_address(services: Services, who: SignedIn, address: str, network: str) -> None:
    """A letter to a new address of the person's, with a link that proves it. RefusedError, ThrottledError."""
    if not services.sends_mail:
        raise RefusedError("No mail is sent from here; whoever runs this installation can change it.", "no_mail")
    email = checked_address(address)
    async with trying(services, "letter", email, network):
        with store_errors("change the address"), acts.acting_as(f"console:{who.person_id}"):
            async with services.pool.acquire() as connection, connection.transaction():
                await mail.enqueue(connection, "address", email, {"person": str(who.person_id)})
                await acts.record(connection, "address_link.made", str(who.person_id))


async def set_address_by_link(services: Services, token: str) -> str:
    """The new address is proven and takes the place of the old one; which it is. DeadLinkError, RefusedError."""
    link = await links.look_at(services, token)
    person = await of_link(services, link, "address")
    if link.email is None:
        raise links.DeadLinkError
    with store_errors("change the address"), acts.acting_as(f"console:{person.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            await link_table.use(connection, link.token_hash, "address")
            if services.sends_mail:  # to the address of before: whoever lost it should know
                await mail.enqueue(connection, "address_set", person.email, {"person": str(person.person_id)})
            await table.set_address(connection, person.person_id, link.email)
    return link.email


async def set_name(services: Services, who: SignedIn, name: str) -> None:
    """What the person is called. RefusedError."""
    with acts.acting_as(f"console:{who.person_id}"):
        await table.set_name(services.pool, who.person_id, checked_name(name))


def checked_address(text: str) -> str:
    """A mail address as it is stored. RefusedError."""
    address = read_address(text)
    if address is None:
        raise RefusedError(ADDRESS_RULE, "bad_address")
    return address


def checked_name(text: str) -> str:
    """A name as it is stored. RefusedError."""
    name = read_name(text)
    if name is None:
        raise RefusedError(NAME_RULE, "bad_name")
    return name


async def of_link(services: Services, link: links.Link, *kinds: str) -> PersonInfo:
    """Whose link it is. DeadLinkError: nobody's any more, or of none of these kinds."""
    person = None if link.person_id is None else await table.by_id(services.pool, link.person_id)
    if person is None or (kinds and link.kind not in kinds) or person.status == "suspended":
        raise links.DeadLinkError
    return person


async def _own_account(connection: Connection, person: PersonInfo) -> None:
    """Whoever signed up, and was not asked into an account, gets one."""
    if person.roles:
        return
    account_id = await accounts.create_own(connection, person.email)
    await members.put(connection, account_id, person.person_id, Role.OWNER.value)


async def _begin(connection: Connection, person_id: uuid.UUID, network: str, *, awaits_code: bool = False) -> Begun:
    token = new_token()
    await sessions.start(connection, person_id, token_hash(token), network, awaits_code=awaits_code)
    return Begun(token, awaits_code)
