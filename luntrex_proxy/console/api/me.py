"""/me: who asks, and where they are signed in."""

from datetime import datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import me
from luntrex_proxy.control.me import ListedSession
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
)  # fmt: skip
