"""/people: everybody there is, for who runs the installation. Who runs it, too, is said on the command line only."""

import uuid
from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Listed, Made, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import acts, people
from luntrex_proxy.control.people import PersonInfo
from luntrex_proxy.core.people import NAME_CHARACTERS_MAX
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.settings.scopes import NAME_PATTERN


class PersonBody(Body):
    """A new person, who sets a password by a link."""

    email: str = Field(max_length=254, description="The mail address.")
    name: str = Field("", max_length=NAME_CHARACTERS_MAX, description="What the person is called, on one line.")
    affirmed_16: bool = Field(description="That the person is 16 years old or older; else there is no room here.")
    account: str | None = Field(None, pattern=NAME_PATTERN, description="To be a member of this account, by its name.")
    role: Role = Field(Role.OWNER, description="In that account.")


class PeopleQuery(PageQuery):
    """Whom."""

    address: str | None = Field(
        None, pattern="^[A-Za-z0-9@][A-Za-z0-9@._+-]{0,253}$", description="Only those with this in their address."
    )
    status: Literal["active", "restricted", "suspended", "unverified"] | None = Field(
        None, description="Only those that are so."
    )


class PersonShown(Shown):
    """A person."""

    id: str
    email: str
    name: str
    status: str
    operator: bool
    email_verified_at: datetime | None
    created_at: datetime
    last_seen_at: datetime | None = Field(description="To the day.")
    has_password: bool
    has_totp: bool
    roles: dict[str, Role] = Field(description="By the names of accounts.")


class NewPersonShown(PersonShown):
    """A person just made."""

    link: str | None = Field(description="To hand on, this once; null: a letter takes it there.")


class LinkShown(Shown):
    """A link to set a password by."""

    link: str | None = Field(description="To hand on, this once; null: a letter takes it there.")


async def _list(call: Call) -> Listed:
    after = None if call.after is None else uuid.UUID(call.after[0])
    await acts.record_read(call.services.pool, "people.list")
    part = (call.query.address or "").lower()
    found = await people.list_page(call.services.pool, after, call.rows, part=part, status=call.query.status)
    return page(call, found, lambda each: PersonShown(**_fields(each)), lambda each: (str(each.person_id),))


async def _create(call: Call) -> Made:
    body: PersonBody = call.body
    made = await people.create(
        call.services, body.email, body.name, affirmed_16=body.affirmed_16, account=body.account, role=body.role,
        by=call.person,
    )  # fmt: skip
    person = await people.find(call.services.pool, made.email)
    return Made(NewPersonShown(**_fields(person), link=made.link), str(person.person_id))


async def _get(call: Call) -> PersonShown:
    found = await people.get(call.services.pool, _id(call))
    await acts.record_read(call.services.pool, "people.get", person_id=str(found.person_id))
    return PersonShown(**_fields(found))


async def _changed(call: Call) -> PersonShown:
    return PersonShown(**_fields(await people.get(call.services.pool, _id(call))))


async def _suspend(call: Call) -> PersonShown:
    await people.get(call.services.pool, _id(call))
    await people.suspend(call.services.pool, _id(call))
    return await _changed(call)


async def _resume(call: Call) -> PersonShown:
    await people.get(call.services.pool, _id(call))
    await people.resume(call.services.pool, _id(call))
    return await _changed(call)


async def _reset(call: Call) -> LinkShown:
    person = await people.get(call.services.pool, _id(call))
    return LinkShown(link=(await people.reset(call.services, person.email)).link)


def _id(call: Call) -> uuid.UUID:
    return uuid.UUID(call.place["person_id"])


def _fields(person: PersonInfo) -> dict[str, Any]:
    return {"id": str(person.person_id)} | {
        name: getattr(person, name) for name in PersonShown.model_fields if name != "id"
    }


_PERSON: Final = "/people/{person_id}"
OPERATIONS: Final = (
    Operation(
        name="people.list", method="GET", path="/people", summary="List everybody.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_READ,), handler=_list, query=PeopleQuery, answer=PersonShown,
    ),
    Operation(
        name="people.create", method="POST", path="/people",
        summary="Make a person, who sets a password by a link: in a letter, or shown this once.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_WRITE,), proven=True, handler=_create, body=PersonBody,
        answer=NewPersonShown, makes=True,
        problems=("address_taken", "bad_address", "bad_name", "not_affirmed_16", "no_account"),
    ),
    Operation(
        name="people.get", method="GET", path=_PERSON, summary="Show a person.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_READ,), handler=_get, answer=PersonShown,
    ),
    Operation(
        name="people.suspend", method="POST", path=f"{_PERSON}/suspend",
        summary="Let a person in no more: sessions, links, tokens and the person's own keys stop.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_WRITE,), handler=_suspend, answer=PersonShown,
        problems=("last_owner", "last_operator"),
    ),
    Operation(
        name="people.resume", method="POST", path=f"{_PERSON}/resume",
        summary="Let a suspended person sign in again; the person's keys stay suspended.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_WRITE,), handler=_resume, answer=PersonShown,
    ),
    # With the link one comes in as somebody else, whatever the scopes of a token.
    Operation(
        name="people.reset", method="POST", path=f"{_PERSON}/reset",
        summary="Let a person set another password, by a link: in a letter, or shown this once. Not with a token.",
        access=Who.OPERATOR, scopes=(Permission.MEMBERS_WRITE,), no_token=True, proven=True, handler=_reset,
        answer=LinkShown, problems=("suspended",),
    ),
)  # fmt: skip
