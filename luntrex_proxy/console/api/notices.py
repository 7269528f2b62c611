"""/incidents/{incident_id}/affected, /drafts, /notify, /notices: whom an incident reached, and who was told of it."""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.console.api.problems import Problem
from luntrex_proxy.control import incidents
from luntrex_proxy.control.incidents import GapsError
from luntrex_proxy.core.roles import Permission


class AffectedShown(Shown):
    """Whom an incident reached, in numbers; the names are in the lists below it."""

    accounts: int
    people: int
    records: int
    erased_accounts: int = Field(description="With records of then, and erased since: nobody of them is known.")
    categories: dict[str, str] = Field(description="Of data: table and purpose.")
    wider: list[str] = Field(description="Why more may be counted than was reached.")


class AccountReached(Shown):
    """An account that an incident reached."""

    id: int
    name: str
    records: int = Field(description="At most so many of its records.")


class PersonReached(Shown):
    """Somebody to tell, and because of which accounts."""

    id: str
    email: str
    accounts: list[str]


class DraftsShown(Shown):
    """Both notices in Markdown, from what is known; what nobody stated stands in them as a gap."""

    to_authority: str
    to_people: str


class NotifiedShown(Shown):
    """What `notify` did."""

    told: int = Field(description="How many people more are told now.")
    by_mail: bool = Field(description="false: they see a banner when they sign in; write to the addresses as well.")


class NoticeShown(Shown):
    """That somebody was told, or is being told."""

    id: int
    email: str | None = Field(description="null: erased since.")
    way: Literal["mail", "banner"]
    queued_at: datetime
    ended_at: datetime | None
    outcome: str | None = Field(description="sent, read, or how it failed; null: it waits.")


class AddressesShown(Shown):
    """Mail addresses of people."""

    addresses: list[str]


async def _affected(call: Call) -> AffectedShown:
    found = await incidents.affected(call.services.pool, call.services.settings, _id(call), _now())
    numbers = {"accounts": len(found.accounts), "people": len(found.people), "records": found.records}
    return AffectedShown(
        **numbers, erased_accounts=found.erased_accounts, categories=found.categories, wider=found.wider
    )


async def _affected_accounts(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    found = await incidents.affected(call.services.pool, call.services.settings, _id(call), _now())
    rows = [one for one in sorted(found.accounts, key=lambda one: one.name) if one.name > after][: call.rows]
    return page(
        call, rows, lambda one: AccountReached(id=one.account_id, name=one.name, records=one.records),
        lambda one: (one.name,),
    )  # fmt: skip


async def _affected_people(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    found = await incidents.affected(call.services.pool, call.services.settings, _id(call), _now())
    rows = [one for one in sorted(found.people, key=lambda one: one.email) if one.email > after][: call.rows]
    return page(
        call, rows, lambda one: PersonReached(id=str(one.person_id), email=one.email, accounts=list(one.accounts)),
        lambda one: (one.email,),
    )  # fmt: skip


async def _drafts(call: Call) -> DraftsShown:
    return DraftsShown.model_validate(
        await incidents.draft(call.services.pool, call.services.settings, _id(call), _now())
    )


async def _notify(call: Call) -> NotifiedShown:
    try:
        told = await incidents.notify(call.services.pool, call.services.settings, _id(call), _now())
    except GapsError as error:
        gaps = [{"field": name, "message": "is not stated yet"} for name in error.missing]
        raise Problem("not_stated", errors=gaps) from None
    return NotifiedShown(told=told, by_mail=call.services.sends_mail)


async def _addresses(call: Call) -> AddressesShown:
    await incidents.get(call.services.pool, _id(call))
    found = await incidents.addresses(call.services.pool)
    return AddressesShown(addresses=found.get(_id(call), []))


async def _notices(call: Call) -> Listed:
    after = 0 if call.after is None else call.after[0]
    found = await incidents.notices(call.services.pool, _id(call), after, call.rows)
    return page(call, found, lambda one: NoticeShown(id=one.notice_id, **asdict(one)), lambda one: (one.notice_id,))


def _id(call: Call) -> int:
    return int(call.place["incident_id"])


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


_INCIDENT: Final = "/incidents/{incident_id}"
OPERATIONS: Final = (
    Operation(
        name="incidents.affected", method="GET", path=f"{_INCIDENT}/affected",
        summary="Count the accounts and people that an incident reached.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_affected, answer=AffectedShown,
    ),
    Operation(
        name="incidents.affected_accounts", method="GET", path=f"{_INCIDENT}/affected/accounts",
        summary="List the accounts that an incident reached, by their names.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_affected_accounts, query=PageQuery,
        answer=AccountReached,
    ),
    Operation(
        name="incidents.affected_people", method="GET", path=f"{_INCIDENT}/affected/people",
        summary="List the people that an incident reached, by their addresses.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_affected_people, query=PageQuery,
        answer=PersonReached,
    ),
    Operation(
        name="incidents.drafts", method="GET", path=f"{_INCIDENT}/drafts",
        summary="Draft the notices to the authority (GDPR article 33) and to people (article 34), from what is known.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_drafts, answer=DraftsShown,
    ),
    Operation(
        name="incidents.notify", method="POST", path=f"{_INCIDENT}/notify",
        summary="Tell everybody affected who was not told before: by mail, or without mail by a banner.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), proven=True, handler=_notify, answer=NotifiedShown,
        problems=("not_stated", "exercise"),
    ),
    Operation(
        name="incidents.addresses", method="GET", path=f"{_INCIDENT}/addresses",
        summary="List whom to write to where no mail goes out: who was told here, and has not said that they read it.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_addresses, answer=AddressesShown,
    ),
    Operation(
        name="incidents.notices", method="GET", path=f"{_INCIDENT}/notices",
        summary="List who was told and how that ended; with `banner`, whom to write to as well.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_notices, query=PageQuery, answer=NoticeShown,
    ),
)  # fmt: skip
