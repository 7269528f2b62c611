"""/accounts/{account_id}/members and /invitations: who is in an account, and who is asked to be."""

import uuid
from datetime import datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Listed, Made, Operation, PageQuery, Shown, page
from luntrex_proxy.control import members
from luntrex_proxy.control.access import DeniedError
from luntrex_proxy.control.members import Invitation, MemberInfo
from luntrex_proxy.core.roles import Permission, Role


class MemberShown(Shown):
    """A member."""

    person_id: str
    email: str
    name: str
    status: str = Field(description="active, or why the person cannot sign in.")
    role: Role
    created_at: datetime = Field(description="Since when.")


class RoleBody(Body):
    """What a member is to be."""

    role: Role


class RemovedShown(Shown):
    """What went with a membership."""

    keys_revoked: int = Field(description="The member's own keys in the account.")


class InvitationShown(Shown):
    """Somebody who is asked into an account and has not come yet."""

    id: str
    email: str
    role: Role
    created_at: datetime
    expires_at: datetime


class NewInvitationShown(InvitationShown):
    """An invitation just made."""

    link: str | None = Field(description="To hand on, this once; null: a letter takes it there.")


class InvitationBody(Body):
    """Whom to ask, and as what."""

    email: str = Field(max_length=254, description="The mail address.")
    role: Role


async def _list(call: Call) -> Listed:
    found = await members.list_page(call.services.pool, call.account_id, _after(call), call.rows)
    return page(call, found, _member, lambda member: (str(member.person_id),))


async def _set_role(call: Call) -> MemberShown:
    person_id = uuid.UUID(call.place["person_id"])
    return _member(await members.set_role(call.services, call.person, call.account_id, person_id, call.body.role))


async def _remove(call: Call) -> RemovedShown:
    person_id = call.place["person_id"]
    leaves = person_id == call.person.person_id and call.person.in_scope(Permission.MEMBERS_WRITE)
    if not (leaves or call.person.may(call.account_id, Permission.MEMBERS_WRITE)):
        raise DeniedError
    revoked = await members.remove(call.services, call.person, call.account_id, uuid.UUID(person_id))
    return RemovedShown(keys_revoked=revoked)


async def _invitations(call: Call) -> Listed:
    found = await members.invitations(call.services.pool, call.account_id, _after(call), call.rows)
    return page(call, found, _invitation, lambda each: (str(each.invitation_id),))


async def _invite(call: Call) -> Made:
    body: InvitationBody = call.body
    made, handover = await members.invite(call.services, call.person, call.account_id, body.email, body.role)
    shown = _invitation(made)
    return Made(NewInvitationShown(**shown.model_dump(), link=handover.link), shown.id)


async def _withdraw(call: Call) -> None:
    await members.withdraw(call.services, call.account_id, uuid.UUID(call.place["invitation_id"]))


def _after(call: Call) -> uuid.UUID | None:
    return None if call.after is None else uuid.UUID(call.after[0])


def _member(member: MemberInfo) -> MemberShown:
    return MemberShown(
        person_id=str(member.person_id),
        email=member.email,
        name=member.name,
        status=member.status,
        role=Role(member.role),
        created_at=member.created_at,
    )


def _invitation(invitation: Invitation) -> InvitationShown:
    return InvitationShown(
        id=str(invitation.invitation_id),
        email=invitation.email,
        role=Role(invitation.role),
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
    )


_MEMBERS: Final = "/accounts/{account_id}/members"
_INVITATIONS: Final = "/accounts/{account_id}/invitations"
OPERATIONS: Final = (
    Operation(
        name="members.list", method="GET", path=_MEMBERS, summary="List who is in an account, and as what.",
        access=(Permission.MEMBERS_READ,), handler=_list, query=PageQuery, answer=MemberShown,
    ),
    Operation(
        name="members.set_role", method="PATCH", path=f"{_MEMBERS}/{{person_id}}",
        summary="Let a member be something else; only owners make and unmake owners.",
        access=(Permission.MEMBERS_WRITE,), proven=True, handler=_set_role, body=RoleBody, answer=MemberShown,
        problems=("last_owner",),
    ),
    Operation(
        name="members.remove", method="DELETE", path=f"{_MEMBERS}/{{person_id}}",
        summary="End a membership and revoke the member's own keys; everybody can leave, but the last owner.",
        access=(Permission.MEMBERS_WRITE, Permission.ACCOUNT_READ), handler=_remove, answer=RemovedShown,
        problems=("last_owner",),
    ),
    Operation(
        name="invitations.list", method="GET", path=_INVITATIONS, summary="List who is asked into an account.",
        access=(Permission.MEMBERS_READ,), handler=_invitations, query=PageQuery, answer=InvitationShown,
    ),
    Operation(
        name="invitations.create", method="POST", path=_INVITATIONS,
        summary="Ask somebody into an account, by a letter or by a link that is shown this once.",
        access=(Permission.MEMBERS_WRITE,), proven=True, handler=_invite, body=InvitationBody,
        answer=NewInvitationShown, makes=True,
        problems=("member_already", "invited_already", "closed", "bad_address"),
    ),
    Operation(
        name="invitations.withdraw", method="DELETE", path=f"{_INVITATIONS}/{{invitation_id}}",
        summary="Take an invitation back; its link works no more.",
        access=(Permission.MEMBERS_WRITE,), handler=_withdraw,
    ),
)  # fmt: skip
