"""Members of an account and who is asked to be one: shown, asked in, given another role, let go. Anybody may leave."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from luntrex_proxy.console.pages.menu import ACCOUNT, Menu
from luntrex_proxy.console.pages.page import Access, Page, Route, WrongFieldsError
from luntrex_proxy.control import members
from luntrex_proxy.control.access import DeniedError, NotFoundError
from luntrex_proxy.core.roles import Permission, Role

_SHOWN_MAX: Final = 200
_ROLES: Final = {
    Role.OWNER: "everything, erasing the account and its consents too",
    Role.ADMIN: "everything but that",
    Role.DEVELOPER: "own keys, and what is used",
    Role.BILLING: "what is used, and bills",
    Role.VIEWER: "sees keys and what is used, changes nothing",
    Role.PRIVACY: "consents, rights of people, incidents and the audit log",
}
DONE: Final = {
    "invited": "A letter with the invitation is on its way.",
    "invitation_withdrawn": "The invitation is taken back; its link works no more.",
    "role_set": "The member's role is changed.",
    "member_removed": "The member is out, and the member's own keys here have ended.",
    "left": "You have left the account, and your own keys there have ended.",
}


async def _list(page: Page) -> Mapping[str, Any]:
    pool, account_id = page.services.pool, page.account.account_id
    found = await members.list_page(pool, account_id, _uuid(page.query("after")), _SHOWN_MAX + 1)
    return {
        "members": found[:_SHOWN_MAX],
        "more": found[_SHOWN_MAX - 1].person_id if len(found) > _SHOWN_MAX else None,
        "invitations": await members.invitations(pool, account_id, None, _SHOWN_MAX),
    }


async def _new(page: Page) -> Mapping[str, Any]:
    return {"roles": _choices(page), "role_words": _ROLES}


async def _invite(page: Page) -> web.StreamResponse:
    codes = ("bad_address", "member_already", "invited_already", "closed")
    with page.beside(**dict.fromkeys(codes, "email")):
        made, handover = await members.invite(
            page.services, page.caller, page.account.account_id, page.field("email"), _role(page)
        )
    if handover.link is None:
        return page.go(f"{_path(page)}?done=invited")
    return page.show("invitation_made.html", {"made": made, "link": handover.link})


async def _withdraw(page: Page) -> web.StreamResponse:
    await members.withdraw(page.services, page.account.account_id, _place(page, "invitation_id"))
    return page.go(f"{_path(page)}?done=invitation_withdrawn")


async def _member(page: Page) -> Mapping[str, Any]:
    member_id = _place(page, "person_id")
    is_self = member_id == page.person.person_id
    if not is_self and not page.may(Permission.MEMBERS_READ):
        raise DeniedError
    return {
        "member": await members.get(page.services.pool, page.account.account_id, member_id),
        "is_self": is_self,
        "roles": _choices(page),
        "role_words": _ROLES,
    }


async def _set_role(page: Page) -> web.StreamResponse:
    member_id = _place(page, "person_id")
    with page.beside(last_owner="role"):
        await members.set_role(page.services, page.caller, page.account.account_id, member_id, _role(page))
    return page.go(f"{_path(page)}/{member_id}?done=role_set")


async def _remove(page: Page) -> web.StreamResponse:
    member_id = _place(page, "person_id")
    leaves = member_id == page.person.person_id
    if not leaves and not page.may(Permission.MEMBERS_WRITE):
        raise DeniedError
    if page.field("sure") != "yes":
        raise WrongFieldsError(sure="Say that the membership shall end.")
    with page.beside(last_owner="sure"):
        await members.remove(page.services, page.caller, page.account.account_id, member_id)
    return page.go("/accounts?done=left" if leaves else f"{_path(page)}?done=member_removed")


def _choices(page: Page) -> list[tuple[str, str]]:
    """The roles that who asks may give: only owners make owners."""
    is_owner = page.caller.roles.get(page.account.account_id) is Role.OWNER
    return [(role.value, role.value) for role in _ROLES if is_owner or role is not Role.OWNER]


def _role(page: Page) -> Role:
    try:
        return Role(page.field("role"))
    except ValueError:
        raise WrongFieldsError(role="Choose one of the roles.") from None


def _path(page: Page) -> str:
    return f"/accounts/{page.account.account_id}/members"


def _place(page: Page, name: str) -> uuid.UUID:
    found = _uuid(page.place(name))
    if found is None:
        raise NotFoundError
    return found


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


_MEMBERS: Final = "/accounts/{account_id}/members"
_MEMBER: Final = f"{_MEMBERS}/{{person_id}}"
_INVITE: Final = "/accounts/{account_id}/invitations"
_READ, _WRITE = (Permission.MEMBERS_READ,), (Permission.MEMBERS_WRITE,)
_ANY: Final = (Permission.MEMBERS_READ, Permission.ACCOUNT_READ)  # oneself, who may leave
ROUTES: Final = (
    Route(_MEMBERS, "members.html", _list, None, Access.MEMBER, _READ, Menu("Members", ACCOUNT, 60, (_INVITE,))),
    Route(f"{_INVITE}/new", "invitation_new.html", _new, _invite, Access.PROVEN, _WRITE),
    Route(f"{_INVITE}/{{invitation_id}}/withdraw", "members.html", _list, _withdraw, Access.MEMBER, _WRITE),
    Route(_MEMBER, "member.html", _member, None, Access.MEMBER, _ANY),
    Route(f"{_MEMBER}/role", "member.html", _member, _set_role, Access.PROVEN, _WRITE),
    Route(f"{_MEMBER}/remove", "member.html", _member, _remove, Access.MEMBER, _ANY),
)
