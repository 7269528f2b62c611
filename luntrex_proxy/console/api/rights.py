"""/me/rights: what one may ask for by right, for oneself; /rights: how a request stands, by its reference.

Whoever runs the installation lists and answers them. How a person is told is up to whoever answers: no letter goes out.
"""

import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Body, Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import acts, rights
from luntrex_proxy.control.links import console_url
from luntrex_proxy.control.rights import Law, Request
from luntrex_proxy.core.rights import Answer, Delay, Refusal, Right, State
from luntrex_proxy.core.roles import Permission

_LAW: Final = "Whose clock runs: a month, 45 days, 15 days."


class RequestShown(Shown):
    """A request, as everybody with its reference may see it."""

    reference: str
    right: Literal["access", "export", "correct", "restrict", "object", "erase"]
    state: Literal["unconfirmed", "open", "waiting", "held", "done", "refused", "withdrawn", "lapsed"]
    law: Literal["gdpr", "ccpa", "lgpd"]
    received_at: datetime
    due_at: datetime = Field(description="When an answer is due.")
    stage: Literal["running", "half", "late", "over"] | None = Field(
        description="How near that is; null: it has ended."
    )
    extended: bool
    act_at: datetime | None = Field(description="When an erasure is carried out; until then it can be withdrawn.")
    closed_at: datetime | None
    outcome: str | None
    receipt: dict[str, Any] | None = Field(description="Of an erasure: what went, and what stays, why, until when.")


class WhoseShown(RequestShown):
    """A request, as who has to answer it sees it."""

    address: str | None = Field(description="Whom to answer; null: nobody confirmed it yet, or they are erased.")


class AccessShown(Shown):
    """What is kept of one, why and how long, and who else gets it."""

    made_at: datetime
    kept: list[dict[str, Any]]
    recipients: list[dict[str, Any]]
    sources: str
    decided_by_machine: str
    rights: str


class ExportShown(Shown):
    """A link that gives one's data out."""

    url: str = Field(description="Works once, and for a day. Whoever has it can fetch the data.")
    expires_at: datetime
    reference: str


class ClocksShown(Shown):
    """How near the open requests are to the end of their time."""

    open: int
    clocks: dict[Literal["running", "half", "late", "over"], int] = Field(
        description="How many by what is gone of their time: less than half, half, four fifths, all of it."
    )
    nearest: dict[Literal["gdpr", "ccpa", "lgpd"], datetime] = Field(
        description="When the next answer is due, by law; one without an open request is left out."
    )


class AllQuery(PageQuery):
    """Which requests."""

    which: Literal["open", "all"] = Field(
        "open", description="open: only those that have not ended; with `state` it counts for nothing."
    )
    right: Right | None = Field(None, description="Only those for this.")
    state: State | None = Field(None, description="Only those that stand so.")


class AnswerBody(Body):
    """How a request was answered outside this program."""

    outcome: Answer


class RefusalBody(Body):
    """Why a request is refused. Tell the person, and where to complain."""

    outcome: Refusal


class DelayBody(Body):
    """Why an answer takes longer. Tell the person before the present time is over."""

    reason: Delay


class LawBody(Body):
    """Under which law one asks."""

    law: Literal["gdpr", "ccpa", "lgpd"] = Field("gdpr", description=_LAW)


class NameBody(LawBody):
    """A correction of the profile."""

    name: str = Field(max_length=1_000, description="What one is called.")


class NoteBody(LawBody):
    """What is wrong about a record of usage. The record itself is never changed."""

    note: str = Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$", description="In one line.")


async def _list(call: Call) -> Listed:
    found = await rights.listed(
        call.services.pool, person_id=_me(call), only_open=False, after=_after(call), limit=call.rows
    )
    return _page(call, found, _shown)


async def _access(call: Call) -> AccessShown:
    days = call.services.settings.retention.by_class()
    _, report = await rights.access(call.services.pool, _me(call), _now(), days)
    return AccessShown.model_validate(report)


async def _export(call: Call) -> ExportShown:
    made, token, until = await rights.offer_export(call.services.pool, _me(call), law=Law(call.body.law))
    url = f"{console_url(call.services.settings)}/rights/download?token={token}"
    return ExportShown(url=url, expires_at=until, reference=made.reference)


async def _name(call: Call) -> RequestShown:
    law = Law(call.body.law)
    return _shown(await rights.correct_name(call.services.pool, _me(call), call.body.name, law=law))


async def _note(call: Call) -> RequestShown:
    body, law = call.body, Law(call.body.law)
    return _shown(
        await rights.annotate(call.services.pool, _me(call), uuid.UUID(call.place["request_id"]), body.note, law=law)
    )


async def _restrict(call: Call) -> RequestShown:
    return _shown(await rights.restrict(call.services.pool, _me(call), law=Law(call.body.law)))


async def _unrestrict(call: Call) -> RequestShown:
    return _shown(await rights.restrict(call.services.pool, _me(call), on=False, law=Law(call.body.law)))


async def _object(call: Call) -> RequestShown:
    return _shown(await rights.object_to_analytics(call.services.pool, _me(call), law=Law(call.body.law)))


async def _no_objection(call: Call) -> RequestShown:
    return _shown(await rights.object_to_analytics(call.services.pool, _me(call), on=False, law=Law(call.body.law)))


async def _erase(call: Call) -> RequestShown:
    grace = timedelta(days=call.services.settings.privacy.erasure_grace_days)
    made = await rights.ask_erasure(call.services.pool, _me(call), _now(), grace, law=Law(call.body.law))
    return _shown(made)


async def _withdraw(call: Call) -> RequestShown:
    return _shown(await rights.withdraw(call.services.pool, call.place["reference"], _me(call)))


async def _status(call: Call) -> RequestShown:
    return _shown(await rights.by_reference(call.services.pool, call.place["reference"]))


async def _all(call: Call) -> Listed:
    query: AllQuery = call.query
    await acts.record_read(call.services.pool, "rights.list")
    found = await rights.listed(
        call.services.pool, only_open=query.which == "open" and query.state is None, after=_after(call),
        limit=call.rows, kind=query.right,
        state=query.state,
    )  # fmt: skip
    return _page(call, found, _whose)


async def _get(call: Call) -> WhoseShown:
    found = await rights.to_answer(call.services.pool, call.place["reference"])
    await acts.record_read(call.services.pool, "rights.get")
    return _whose(found)


async def _answer(call: Call) -> WhoseShown:
    return await _closed(call, refused=False)


async def _refuse(call: Call) -> WhoseShown:
    return await _closed(call, refused=True)


async def _closed(call: Call, *, refused: bool) -> WhoseShown:
    pool, reference = call.services.pool, call.place["reference"]
    await rights.answer(pool, reference, refused=refused, outcome=call.body.outcome)
    return _whose(await rights.to_answer(pool, reference))


async def _extend(call: Call) -> WhoseShown:
    pool, reference = call.services.pool, call.place["reference"]
    await rights.extend(pool, reference, call.body.reason)
    return _whose(await rights.to_answer(pool, reference))


def _after(call: Call) -> tuple[datetime, uuid.UUID] | None:
    return None if call.after is None else (datetime.fromisoformat(call.after[0]), uuid.UUID(call.after[1]))


def _page(call: Call, found: Sequence[Request], shown: Callable[[Request], RequestShown]) -> Listed:
    return page(call, found, shown, lambda each: (each.received_at.isoformat(), str(each.request_id)))


async def _clocks(call: Call) -> ClocksShown:
    found = await rights.clocks(call.services.pool, _now())
    return ClocksShown(open=sum(found.stages.values()), clocks=found.stages, nearest=found.nearest)


def _shown(request: Request) -> RequestShown:
    return RequestShown.model_validate(rights.shown(request, _now()))


def _whose(request: Request) -> WhoseShown:
    return WhoseShown.model_validate(rights.shown(request, _now()) | {"address": request.address})


def _me(call: Call) -> uuid.UUID:
    return uuid.UUID(call.person.person_id)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


OPERATIONS: Final = (
    Operation(
        name="rights.list_own", method="GET", path="/me/rights", summary="List what one has asked for by right.",
        access=Who.PERSON, handler=_list, query=PageQuery, answer=RequestShown,
    ),
    Operation(
        name="rights.access", method="GET", path="/me/rights/access",
        summary="Show what is kept of oneself, why and how long, and who else gets it.",
        access=Who.SIGNED_IN, handler=_access, answer=AccessShown,
    ),
    Operation(
        name="rights.export", method="POST", path="/me/rights/export",
        summary="Make a link that gives out one's data, as a zip of JSON and CSV, once within a day.",
        access=Who.SIGNED_IN, proven=True, handler=_export, body=LawBody, answer=ExportShown,
    ),
    Operation(
        name="rights.correct_name", method="POST", path="/me/rights/correct-name",
        summary="Correct what one is called.",
        access=Who.SIGNED_IN, handler=_name, body=NameBody, answer=RequestShown, problems=("bad_name",),
    ),
    Operation(
        name="rights.annotate", method="POST", path="/me/usage/{request_id}/annotate",
        summary="Say what is wrong about a record of one's own usage; the words stand beside it.",
        access=Who.SIGNED_IN, handler=_note, body=NoteBody, answer=RequestShown,
        problems=("not_found", "bad_note"),
    ),
    Operation(
        name="rights.restrict", method="POST", path="/me/rights/restrict",
        summary="Have one's data stored only: keys answer 403, everywhere within a second.",
        access=Who.SIGNED_IN, handler=_restrict, body=LawBody, answer=RequestShown,
    ),
    Operation(
        name="rights.unrestrict", method="POST", path="/me/rights/unrestrict", summary="End that again.",
        access=Who.SIGNED_IN, handler=_unrestrict, body=LawBody, answer=RequestShown,
    ),
    Operation(
        name="rights.object", method="POST", path="/me/rights/object",
        summary="Object to analytics: from now on new usage does not lead to one's keys.",
        access=Who.SIGNED_IN, handler=_object, body=LawBody, answer=RequestShown,
    ),
    Operation(
        name="rights.end_objection", method="POST", path="/me/rights/end-objection", summary="End that again.",
        access=Who.SIGNED_IN, handler=_no_objection, body=LawBody, answer=RequestShown,
    ),
    Operation(
        name="rights.erase", method="POST", path="/me/rights/erase",
        summary="Have oneself erased, and accounts that are nobody else's, when the time to withdraw it is over.",
        access=Who.SIGNED_IN, proven=True, handler=_erase, body=LawBody, answer=RequestShown,
        problems=("last_owner",),
    ),
    Operation(
        name="rights.withdraw", method="POST", path="/me/rights/{reference}/withdraw",
        summary="Take back a request that was not carried out yet.",
        access=Who.SIGNED_IN, handler=_withdraw, answer=RequestShown, problems=("not_found", "ended"),
    ),
    Operation(
        name="rights.status", method="GET", path="/rights/{reference}",
        summary="Show how a request stands, and the receipt of an erasure.",
        access=Who.ANYONE, handler=_status, answer=RequestShown, problems=("not_found",),
    ),
    Operation(
        name="rights.clocks", method="GET", path="/rights/clocks",
        summary="Count open requests by how near the end of their time is, and show when the next is due.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_clocks, answer=ClocksShown,
    ),
    Operation(
        name="rights.list", method="GET", path="/rights", summary="List requests of everybody, the oldest first.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_all, query=AllQuery, answer=WhoseShown,
    ),
    Operation(
        name="rights.get", method="GET", path="/rights/{reference}/whose",
        summary="Show a request to who has to answer it: with the address.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_get, answer=WhoseShown,
    ),
    Operation(
        name="rights.answer", method="POST", path="/rights/{reference}/answer",
        summary="Close a request that was answered outside this program. No letter goes out.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_answer, body=AnswerBody, answer=WhoseShown,
        problems=("ended",),
    ),
    Operation(
        name="rights.refuse", method="POST", path="/rights/{reference}/refuse",
        summary="Refuse a request, with the reason. No letter goes out.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_refuse, body=RefusalBody, answer=WhoseShown,
        problems=("ended",),
    ),
    Operation(
        name="rights.extend", method="POST", path="/rights/{reference}/extend",
        summary="Take the longer time that the law allows, once.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_extend, body=DelayBody, answer=WhoseShown,
        problems=("no_longer_time",),
    ),
)  # fmt: skip
