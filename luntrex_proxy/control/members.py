"""Members of accounts and invitations to them, as the roles of who asks allow. Who may at all: control/access.py."""

import contextlib
import uuid
from collections.abc import AsyncIterator

from luntrex_proxy.control import acts, links
from luntrex_proxy.control.access import NotFoundError, Person
from luntrex_proxy.control.guessing import trying
from luntrex_proxy.control.people import Handover, checked_address, refuse_owners
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import links as link_table
from luntrex_proxy.store import mail, people
from luntrex_proxy.store import members as table
from luntrex_proxy.store.changes import hold_changes
from luntrex_proxy.store.database import Pool, store_errors
from luntrex_proxy.store.joined import joined
from luntrex_proxy.store.members import Invitation, MemberInfo

__all__ = ["Invitation", "MemberInfo", "get", "invitations", "invite", "list_page", "remove", "set_role", "withdraw"]
list_page, invitations = table.list_page, table.invitations


async def get(pool: Pool, account_id: int, member_id: uuid.UUID) -> MemberInfo:
    """One member of the account. NotFoundError."""
    found = await table.find(pool, account_id, member_id)
    if found is None:
        raise NotFoundError
    return found


async def set_role(services: Services, person: Person, account_id: int, member_id: uuid.UUID, role: Role) -> MemberInfo:
    """Let a member be something else. DeniedError: only owners make and unmake owners. LastOwnerError."""
    async with _changing(services) as pool:
        await refuse_owners(pool, person, account_id, await _role_of(pool, account_id, member_id), role)
        return await table.set_role(pool, account_id, member_id, role.value)


async def remove(services: Services, person: Person, account_id: int, member_id: uuid.UUID) -> int:
    """End a membership and revoke the member's own keys there; how many. Whoever leaves may do so: one's own."""
    async with _changing(services) as pool:
        role = await _role_of(pool, account_id, member_id)
        if str(member_id) != person.person_id:
            await refuse_owners(pool, person, account_id, role)
        return await table.remove(pool, account_id, member_id)


async def invite(
    services: Services, person: Person, account_id: int, address: str, role: Role
) -> tuple[Invitation, Handover]:
    """Ask somebody into the account; by a letter, or by the link in `Handover`. RefusedError, DeniedError.

    ThrottledError: where anybody may sign up, members are strangers, who could have any number of letters written.
    """
    email = checked_address(address)
    if services.settings.console.sign_up == "closed" and await people.credentials(services.pool, email) is None:
        raise acts.RefusedError("Only the operator adds new people here; ask whoever runs this installation.", "closed")
    await refuse_owners(services.pool, person, account_id, role)
    counted = trying(services, "letter", email, person.person_id)
    async with counted if services.sends_mail and not person.operator else contextlib.nullcontext():
        return await _invite(services, account_id, email, role, uuid.UUID(person.person_id))


async def invite_for_operator(
    services: Services, account_id: int, address: str, role: Role
) -> tuple[Invitation, Handover]:
    """The same by the command line, which may invite anybody as anything. RefusedError."""
    return await _invite(services, account_id, checked_address(address), role, None)


async def _invite(
    services: Services, account_id: int, email: str, role: Role, invited_by: uuid.UUID | None
) -> tuple[Invitation, Handover]:
    with store_errors("make the invitation"):
        async with services.pool.acquire() as connection, connection.transaction():
            made = await table.invite(connection, account_id, email, role.value, invited_by)
            if services.sends_mail:
                await mail.enqueue(connection, "invitation", email, {"invitation": str(made.invitation_id)})
                return made, Handover(email, None)
            token = await links.make(connection, "invitation", invitation_id=made.invitation_id)
            return made, Handover(email, links.url_of(links.console_url(services.settings), token))


async def withdraw(services: Services, account_id: int, invitation_id: uuid.UUID) -> None:
    """Take an invitation back; its links work no more. NotFoundError."""
    if not await table.withdraw(services.pool, account_id, invitation_id):
        raise NotFoundError


async def invitations_for(services: Services, email: str) -> list[Invitation]:
    """What the person of this address can take up."""
    return await table.invitations_for(services.pool, email)


async def accept(services: Services, person_id: uuid.UUID, invitation_id: uuid.UUID) -> Invitation:
    """The person becomes a member. RefusedError: the invitation is over, or the address was never proven.

    Without mail nobody proves an address, and whoever invites chooses it: then the invitation's own link is needed.
    """
    if not services.sends_mail:
        raise acts.RefusedError("Open the link that you were given with this invitation.", "needs_link")
    person = await people.by_id(services.pool, person_id)
    if person is None or person.email_verified_at is None:
        raise acts.RefusedError(
            "Prove first that this address is yours: send a link to it from your profile.", "unproven_address"
        )
    with store_errors("take up the invitation"):
        async with services.pool.acquire() as connection, connection.transaction():
            return await table.take_up(connection, invitation_id, person_id, person.email)


async def accept_by_link(services: Services, who: SignedIn, token: str) -> Invitation:
    """The same, by the link of the invitation. RefusedError: it is for another address. DeadLinkError."""
    link = await links.look_at(services, token)
    if link.invitation_id is None:
        raise links.DeadLinkError
    with store_errors("take up the invitation"), acts.acting_as(f"console:{who.person_id}"):
        async with services.pool.acquire() as connection, connection.transaction():
            await link_table.use(connection, link.token_hash, "invitation")
            return await table.take_up(connection, link.invitation_id, who.person_id, who.email)


async def turn_down(services: Services, email: str, invitation_id: uuid.UUID) -> None:
    """The person of this address does not want it. NotFoundError."""
    found = await table.invitation(services.pool, invitation_id)
    if found is None or not await table.withdraw(services.pool, found.account_id, invitation_id, email):
        raise NotFoundError


async def of_link(services: Services, invitation_id: uuid.UUID) -> tuple[Invitation, bool]:
    """An invitation whose link somebody has, and whether its address is somebody's here already. DeadLinkError."""
    found = await table.invitation(services.pool, invitation_id)
    if found is None:
        raise links.DeadLinkError
    return found, await people.credentials(services.pool, found.email) is not None


@contextlib.asynccontextmanager
async def _changing(services: Services) -> AsyncIterator[Pool]:
    """Who may is looked at in the transaction of the change, and nobody else changes members meanwhile."""
    with store_errors("change the member"):
        async with services.pool.acquire() as connection, connection.transaction():
            await hold_changes(connection)
            yield joined(connection)


async def _role_of(pool: Pool, account_id: int, member_id: uuid.UUID) -> Role:
    role = await table.role_of(pool, account_id, member_id)
    if role is None:
        raise NotFoundError
    return Role(role)
