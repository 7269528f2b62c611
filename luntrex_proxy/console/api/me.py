"""/me: who asks, where they are signed in, what they are asked into, and what they are to be told of incidents."""

import uuid
from dataclasses import asdict
from datetime import datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.incidents import ToldShown
from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Query, Shown, Who, page
from luntrex_proxy.control import incidents, me, members
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.me import ListedSession
from luntrex_proxy.control.members import Invitation
from luntrex_proxy.core.roles import Role


class MemberOf(Shown):
    """What one is in an account."""

    account_id: int
    account: str
    role: Role


class MeShown(Shown):
    """Who asks."""

    id: str
    email: str
    name: str
    operator: bool = Field(description="Whether one runs this installation.")
    created_at: datetime
    members: list[MemberOf] = Field(description="The accounts one is in.")
    token_id: str | None = Field(description="The token that was sent; null: a session.")
    scopes: list[str] | None = Field(description="What the token is limited to; null: a session, not limited.")


class SessionShown(Shown):
    """Where one is signed in."""

    id: str
    current: bool = Field(description="Whether it is the session that asks.")
    network: str = Field(description="The network it began from, not the address.")
    started_at: datetime
    last_used_at: datetime = Field(description="To the minute.")


class AskedShown(Shown):
    """An invitation to an account."""

    id: str
    account: str
    role: Role
    created_at: datetime
    expires_at: datetime


class AskedInShown(Shown):
    """What one can take up."""

    items: list[AskedShown]


class NoticesShown(Shown):
    """Incidents that may have reached one's data, of which one has not said yet that one read of them."""

    contact: str = Field(description="Whom to ask; empty: nobody is named.")
    items: list[ToldShown]


class EndedShown(Shown):
    """How many sessions were ended."""

    ended: int


async def _me(call: Call) -> MeShown:
    person = call.person
    found = await me.profile(call.services.pool, person.person_id)
    members = [
        MemberOf(account_id=each.account_id, account=each.account, role=Role(each.role)) for each in found.members
    ]
    return MeShown(
        id=person.person_id,
        email=found.email,
        name=found.name,
        operator=person.operator,
        created_at=found.created_at,
        members=members,
        token_id=person.token_id,
        scopes=None if person.scopes is None else sorted(person.scopes),
    )


async def _sessions(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    found = await me.sessions(call.services.pool, call.person, after, call.rows)
    return page(call, found, lambda session: _shown(call, session), lambda session: (str(session.session_id),))


async def _end(call: Call) -> None:
    await me.end_session(call.services.pool, call.person, call.place["session_id"])


async def _end_others(call: Call) -> EndedShown:
    return EndedShown(ended=await me.end_other_sessions(call.services.pool, call.person))


async def _invitations(call: Call) -> AskedInShown:
    found = await members.invitations_for(call.services, await _address(call))
    return AskedInShown(items=[_asked(each) for each in found])


async def _accept(call: Call) -> MemberOf:
    person_id, invitation_id = uuid.UUID(call.person.person_id), uuid.UUID(call.place["invitation_id"])
    asked = await members.invitations_for(call.services, await _address(call))
    if invitation_id not in {each.invitation_id for each in asked}:
        raise NotFoundError
    found = await members.accept(call.services, person_id, invitation_id)
    return MemberOf(account_id=found.account_id, account=found.account, role=Role(found.role))


async def _turn_down(call: Call) -> None:
    await members.turn_down(call.services, await _address(call), uuid.UUID(call.place["invitation_id"]))


async def _notices(call: Call) -> NoticesShown:
    found = await incidents.banners(call.services.pool, uuid.UUID(call.person.person_id))
    contact = incidents.contact_of(call.services.settings)
    return NoticesShown(contact=contact, items=[ToldShown(**asdict(one), id=one.incident_id) for one in found])


async def _read(call: Call) -> None:
    pool, person_id = call.services.pool, uuid.UUID(call.person.person_id)
    incident_id = int(call.place["incident_id"])
    if incident_id not in {each.incident_id for each in await incidents.banners(pool, person_id)}:
        raise NotFoundError
    await incidents.confirm_banner(pool, person_id, incident_id)


async def _address(call: Call) -> str:
    return (await me.profile(call.services.pool, call.person.person_id)).email


def _asked(invitation: Invitation) -> AskedShown:
    fields = {name: getattr(invitation, name) for name in AskedShown.model_fields if name not in ("id", "role")}
    return AskedShown(id=str(invitation.invitation_id), role=Role(invitation.role), **fields)


def _shown(call: Call, session: ListedSession) -> SessionShown:
    session_id = str(session.session_id)
    return SessionShown(
        id=session_id,
        current=session_id == call.person.session_id,
        network=session.network,
        started_at=session.started_at,
        last_used_at=session.last_used_at,
    )


OPERATIONS: Final = (
    Operation(
        name="me.get", method="GET", path="/me", summary="Show who asks, and what they are in which accounts.",
        access=Who.PERSON, handler=_me, answer=MeShown,
    ),
    Operation(
        name="sessions.list", method="GET", path="/me/sessions", summary="List where one is signed in.",
        access=Who.SIGNED_IN, handler=_sessions, query=PageQuery, answer=SessionShown,
    ),
    Operation(
        name="sessions.end", method="DELETE", path="/me/sessions/{session_id}", summary="Sign out there.",
        access=Who.SIGNED_IN, handler=_end,
    ),
    Operation(
        name="sessions.end_others", method="POST", path="/me/sessions/end-others",
        summary="Sign out everywhere but here.", access=Who.SIGNED_IN, handler=_end_others, answer=EndedShown,
    ),
    Operation(
        name="invitations.list_own", method="GET", path="/me/invitations",
        summary="List the accounts that one is asked into.",
        access=Who.SIGNED_IN, handler=_invitations, query=Query, answer=AskedInShown,
    ),
    Operation(
        name="invitations.accept", method="POST", path="/me/invitations/{invitation_id}/accept",
        summary="Become a member; where no mail goes out it takes the invitation's own link.",
        access=Who.SIGNED_IN, handler=_accept, answer=MemberOf, problems=("needs_link", "unproven_address"),
    ),
    Operation(
        name="invitations.turn_down", method="DELETE", path="/me/invitations/{invitation_id}",
        summary="Turn an invitation down.", access=Who.SIGNED_IN, handler=_turn_down,
    ),
    Operation(
        name="notices.list", method="GET", path="/me/notices",
        summary="Show the incidents of which one has not said yet that one read of them.",
        access=Who.SIGNED_IN, handler=_notices, query=Query, answer=NoticesShown,
    ),
    Operation(
        name="notices.read", method="POST", path="/me/notices/{incident_id}/read",
        summary="Say that one has read of an incident.", access=Who.SIGNED_IN, handler=_read,
    ),
)  # fmt: skip
