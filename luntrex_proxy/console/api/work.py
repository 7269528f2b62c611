"""/work: what takes long, how far it is and how it ended; /me/work: copies of one's own data.

Closing a month for all accounts and pricing records anew begin here. Copies and erasures begin where one asks for them.
"""

import time
import uuid
from datetime import UTC, date, datetime
from typing import Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.fields import Day
from luntrex_proxy.console.api.operations import Body, Call, Operation, Query, Shown, Who
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.console.api.usage import MODEL
from luntrex_proxy.control import acts, repricing, statements, work
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.repricing import Selection
from luntrex_proxy.control.work import Work
from luntrex_proxy.core.months import BadMonthError, next_month, read_month
from luntrex_proxy.core.roles import Permission

_SHOWN_MAX: Final = 50
_FIRST_DAY: Final = date(2000, 1, 1)


class WorkShown(Shown):
    """A piece of long work."""

    id: uuid.UUID
    kind: str = Field(description="export, erasure, repricing or closing.")
    state: Literal["running", "done", "failed", "stopped", "interrupted"]
    about: dict[str, Any] = Field(description="Ids, days and names of models.")
    created_at: datetime
    done: int = Field(description="So much,")
    expected: int = Field(description="of so much; 0: not known yet.")
    ended_at: datetime | None
    result: dict[str, Any] = Field(description="Numbers, and of what failed our sentence.")


class WorksShown(Shown):
    """The newest pieces of work, at most 50."""

    items: list[WorkShown]


class ClosingBody(Body):
    """A month to close for all accounts, for good."""

    month: str = Field(pattern="^[0-9]{4}-[0-9]{2}$", description="One that is over in UTC, such as 2026-10.")


class RepricingBody(Body):
    """Which records to price by the prices of now."""

    since: Day = Field(description="The first UTC day.")
    until: Day = Field(description="The last UTC day.")
    account_id: int | None = Field(None, ge=1, le=2**63 - 1, description="Only of this account.")
    model: str | None = Field(None, pattern=MODEL, description="Only of this model.")


async def _list(call: Call) -> WorksShown:
    await acts.record_read(call.services.pool, "work.list")
    return WorksShown(items=[_shown(each) for each in await work.newest(call.services.pool, _SHOWN_MAX)])


async def _list_own(call: Call) -> WorksShown:
    found = await work.newest(
        call.services.pool, _SHOWN_MAX, kinds=["export"], person_id=uuid.UUID(call.person.person_id)
    )
    return WorksShown(items=[_shown(each) for each in found])


async def _get(call: Call) -> WorkShown:
    found, person = await _found(call), call.person
    may_see_all = person.operator and person.in_scope(Permission.BILLING_READ)
    if not may_see_all and str(found.person_id) != person.person_id:
        raise NotFoundError
    return _shown(found)


async def _close(call: Call) -> WorkShown:
    try:
        month = read_month(call.body.month)
    except BadMonthError:
        raise invalid("/month", "must be a month such as 2026-10") from None
    if next_month(month) > _today():
        raise invalid("/month", "must be over, in UTC")
    return await _begun(call, await statements.begin_closing(call.services.pool, month))


async def _reprice(call: Call) -> WorkShown:
    body: RepricingBody = call.body
    if body.since > body.until:
        raise invalid("/until", "must not be before since")
    if body.until > _today():
        raise invalid("/until", "must not lie ahead")
    await acts.record_read(call.services.pool, "repricing.preview", body.account_id)
    selection = Selection(body.since, body.until, body.account_id, body.model)
    return await _begun(call, await repricing.begin(call.services, selection, apply=False))


async def _apply(call: Call) -> WorkShown:
    found = await _found(call)
    selection = repricing.previewed(found)
    if selection is None:
        raise NotFoundError
    return await _begun(call, await repricing.begin(call.services, selection, apply=True))


async def _begun(call: Call, work_id: uuid.UUID) -> WorkShown:
    found = await work.get(call.services.pool, work_id)
    if found is None:
        raise NotFoundError
    return _shown(found)


async def _found(call: Call) -> Work:
    found = await work.get(call.services.pool, uuid.UUID(call.place["work_id"]))
    if found is None:
        raise NotFoundError
    return found


def _shown(found: Work) -> WorkShown:
    fields = {name: getattr(found, name) for name in WorkShown.model_fields if name != "id"}
    return WorkShown(id=found.work_id, **fields)


def _today() -> date:
    return datetime.fromtimestamp(time.time(), UTC).date()


_WORK: Final = "/work"
_ONE: Final = f"{_WORK}/{{work_id}}"
OPERATIONS: Final = (
    Operation(
        name="work.list", method="GET", path=_WORK, summary="List what takes long or took long, newest first.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_READ,), handler=_list, query=Query, answer=WorksShown,
    ),
    Operation(
        name="work.list_own", method="GET", path="/me/work",
        summary="List copies of one's own data: how far each is, and how it ended.",
        access=Who.PERSON, handler=_list_own, query=Query, answer=WorksShown,
    ),
    Operation(
        name="work.get", method="GET", path=_ONE,
        summary="Show how far a piece of work is: a copy of one's own data, or to operators any.",
        access=Who.PERSON, handler=_get, answer=WorkShown,
    ),
    Operation(
        name="work.close_month", method="POST", path=f"{_WORK}/closings",
        summary="Begin to close a month for all accounts, for good; ask for the work by its id.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_WRITE,), handler=_close, body=ClosingBody, answer=WorkShown,
        problems=("under_way",),
    ),
    Operation(
        name="work.preview_prices", method="POST", path=f"{_WORK}/repricings",
        summary="Begin to reckon what records would cost at the prices of now; nothing is changed by it.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_READ,), handler=_reprice, body=RepricingBody,
        answer=WorkShown, problems=("under_way",),
    ),
    Operation(
        name="work.apply_prices", method="POST", path=f"{_ONE}/apply",
        summary="Begin to change the records that such a preview, which has ended, was about.",
        access=Who.OPERATOR, scopes=(Permission.BILLING_WRITE,), proven=True, handler=_apply, answer=WorkShown,
        problems=("under_way",),
    ),
)  # fmt: skip
