"""/child-reports: reports that somebody here is under 16, and what is decided on them. Anybody reports by the form."""

import time
import uuid
from datetime import UTC, datetime
from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import acts, children
from luntrex_proxy.control.children import ChildReport
from luntrex_proxy.core.roles import Permission


class ReportsQuery(PageQuery):
    """Which reports."""

    which: Literal["all", "open"] = Field("all", description="open: only those that have not ended.")


class ReportShown(Shown):
    """A report. The addresses in it are forgotten when it ends."""

    id: uuid.UUID
    reported_address: str | None
    is_known: bool = Field(description="Whether somebody here has that address, or had it when the report came.")
    relation: Literal["parent", "self", "school", "other"] = Field(description="Who reports.")
    received_at: datetime
    decision: Literal["confirmed", "dismissed"] | None
    decided_at: datetime | None
    erase_due_at: datetime | None = Field(description="Until when the person's data have to be gone.")
    stage: Literal["running", "half", "late", "over"] | None = Field(description="How near that is; null: no clock.")
    ended_at: datetime | None


async def _list(call: Call) -> Listed:
    await acts.record_read(call.services.pool, "child_reports.list")
    before = None if call.after is None else (datetime.fromisoformat(call.after[0]), uuid.UUID(call.after[1]))
    open_only = call.query.which == "open"
    found = await children.list_page(call.services.pool, before, call.rows, open_only=open_only)
    return page(call, found, _shown, lambda one: (one.received_at.isoformat(), str(one.report_id)))


async def _get(call: Call) -> ReportShown:
    found = await children.get(call.services.pool, _id(call))
    await acts.record_read(call.services.pool, "child_reports.get")
    return _shown(found)


async def _confirm(call: Call) -> ReportShown:
    await children.get(call.services.pool, _id(call))
    return _shown(await children.confirm(call.services.pool, _id(call), _now()))


async def _take_back(call: Call) -> ReportShown:
    await children.get(call.services.pool, _id(call))
    await children.take_back(call.services.pool, _id(call))
    return _shown(await children.get(call.services.pool, _id(call)))


async def _dismiss(call: Call) -> ReportShown:
    await children.get(call.services.pool, _id(call))
    await children.dismiss(call.services.pool, _id(call))
    return _shown(await children.get(call.services.pool, _id(call)))


def _id(call: Call) -> uuid.UUID:
    return uuid.UUID(call.place["report_id"])


def _shown(report: ChildReport) -> ReportShown:
    fields = {name: getattr(report, name) for name in ReportShown.model_fields if name not in ("id", "stage")}
    return ReportShown(id=report.report_id, stage=report.stage(_now()), **fields)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


_REPORT: Final = "/child-reports/{report_id}"
OPERATIONS: Final = (
    Operation(
        name="child_reports.list", method="GET", path="/child-reports", summary="List the reports, newest first.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_list, query=ReportsQuery, answer=ReportShown,
    ),
    Operation(
        name="child_reports.get", method="GET", path=_REPORT, summary="Show a report.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_get, answer=ReportShown,
    ),
    Operation(
        name="child_reports.confirm", method="POST", path=f"{_REPORT}/confirm",
        summary="It is so: the person is suspended at once, and erased a day later, within 72 hours at most.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), proven=True, handler=_confirm, answer=ReportShown,
        problems=("decided",),
    ),
    Operation(
        name="child_reports.dismiss", method="POST", path=f"{_REPORT}/dismiss",
        summary="It is not so, or nobody has that address; the addresses in it are forgotten.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), proven=True, handler=_dismiss, answer=ReportShown,
        problems=("decided",),
    ),
    Operation(
        name="child_reports.take_back", method="POST", path=f"{_REPORT}/take-back",
        summary="It was a mistake to confirm it: nobody is erased by it. The person stays suspended until resumed.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), proven=True, handler=_take_back, answer=ReportShown,
        problems=("not_confirmed",),
    ),
)  # fmt: skip
