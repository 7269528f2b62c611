"""/incidents: the register of breaches, for who runs the installation; /accounts/{account_id}/incidents: of an account.

An account's own people see the incidents of which they were told, in the words in which they were told. Whom one
reached and who was told of it: notices.py.
"""

import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.fields import Moment, PublicLine, PublicText
from luntrex_proxy.console.api.operations import Body, Call, Listed, Made, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.control import incidents
from luntrex_proxy.core.incidents import OBJECT, TEXT_CHARACTERS_MAX, TITLE_CHARACTERS_MAX, Incident, Reach, clocks
from luntrex_proxy.core.roles import Permission

_Title = Annotated[PublicLine, Field(min_length=1, max_length=TITLE_CHARACTERS_MAX)]
_Text = Annotated[PublicText, Field(max_length=TEXT_CHARACTERS_MAX)]
_NATURE, _CONSEQUENCES, _MEASURES = (
    f"{what}, for the notices; empty: not stated yet."
    for what in ("What happened", "What may follow", "What was and is done")
)


class ReachBody(Body):
    """Something that an incident reached, and when."""

    kind: Literal["key", "upstream", "table"]
    object: str = Field(pattern=f"^{OBJECT.pattern}$", description="Id of the key, or its name.")
    begins_at: Moment
    ends_at: Moment | None = Field(None, description="Until when; by default now.")


_Reaches = Annotated[list[ReachBody], Field(max_length=100)]


class IncidentsQuery(PageQuery):
    """Which incidents."""

    which: Literal["all", "open", "closed"] = Field("all", description="Whether they are closed.")


class IncidentBody(Body):
    """A new incident."""

    title: _Title
    aware_at: Moment | None = Field(None, description="When somebody knew: the clocks begin. By default now.")
    nature: _Text = Field("", description=_NATURE)
    consequences: _Text = Field("", description=_CONSEQUENCES)
    measures: _Text = Field("", description=_MEASURES)
    reaches: _Reaches = Field([], description="What it reached.")


class ChangeBody(Body):
    """What to state of an incident; what is left out stays as it was."""

    title: _Title | None = None
    nature: _Text | None = Field(None, description=_NATURE)
    consequences: _Text | None = Field(None, description=_CONSEQUENCES)
    measures: _Text | None = Field(None, description=_MEASURES)
    authority_notified_at: Moment | None = Field(None, description="When the supervisory authority was told.")
    reaches: _Reaches = Field([], description="What it reached as well.")


class CloseBody(Body):
    """The end of an incident."""

    conclusion: _Text = Field(min_length=1, description="Why it can be closed.")


class ExerciseBody(Body):
    """What an exercise is to reach."""

    reaches: list[ReachBody] = Field(min_length=1, max_length=100)


class ReachShown(Shown):
    """Something that an incident reached, and when."""

    kind: str
    object: str
    begins_at: datetime
    ends_at: datetime


class ToldShown(Shown):
    """An incident, as those are told whose data it may have reached."""

    id: int
    title: str
    nature: str
    consequences: str
    measures: str
    aware_at: datetime
    closed_at: datetime | None


class IncidentShown(ToldShown):
    """An incident of the register."""

    drill: bool = Field(description="An exercise: nobody is told.")
    opened_at: datetime
    decide_by: datetime = Field(description="Our own 24 hours.")
    authority_by: datetime = Field(description="The 72 hours of GDPR article 33.")
    stage: Literal["running", "half", "late", "over"] | None = Field(
        description="How near that is; null: the authority was told, or it is closed."
    )
    authority_notified_at: datetime | None
    conclusion: str | None


class WholeShown(IncidentShown):
    """An incident, and what it reached."""

    reaches: list[ReachShown]


class ExerciseShown(Shown):
    """What an exercise found."""

    id: int = Field(description="Its number in the register, where it is closed.")
    accounts: int
    people: int
    seconds: float
    gaps: int = Field(description="Places in the notices that are for people to fill.")


async def _list(call: Call) -> Listed:
    before = None if call.after is None else call.after[0]
    is_open = {"all": None, "open": True, "closed": False}[call.query.which]
    found = await incidents.list_all(call.services.pool, before, call.rows, is_open=is_open)
    return page(call, found, lambda one: IncidentShown(**_fields(one)), lambda one: (one.incident_id,))


async def _list_of_account(call: Call) -> Listed:
    before = None if call.after is None else call.after[0]
    found = await incidents.list_of_account(call.services.pool, call.account_id, before, call.rows)
    return page(call, found, lambda one: ToldShown(**_fields(one)), lambda one: (one.incident_id,))


async def _open(call: Call) -> Made:
    body: IncidentBody = call.body
    texts = {"nature": body.nature, "consequences": body.consequences, "measures": body.measures}
    reaches = _reaches(body.reaches)
    made = await incidents.open_(call.services.pool, body.title, body.aware_at or _now(), reaches, texts)
    return await _made(call, str(made.incident_id))


async def _made(call: Call, object_id: str) -> Made:
    return Made(_whole(*await incidents.get(call.services.pool, int(object_id))), object_id)


async def _get(call: Call) -> WholeShown:
    return _whole(*await incidents.get(call.services.pool, _id(call)))


async def _change(call: Call) -> WholeShown:
    changes = call.body.model_dump(exclude={"reaches"}, exclude_none=True)
    if not changes and not call.body.reaches:
        raise invalid("", "must say what to change")
    return _whole(*await incidents.change(call.services.pool, _id(call), changes, _reaches(call.body.reaches)))


async def _close(call: Call) -> WholeShown:
    await incidents.get(call.services.pool, _id(call))
    await incidents.close(call.services.pool, _id(call), call.body.conclusion)
    return await _get(call)


async def _drill(call: Call) -> ExerciseShown:
    done = await incidents.drill(call.services.pool, call.services.settings, _reaches(call.body.reaches), _now())
    fields = {name: getattr(done, name) for name in ExerciseShown.model_fields if name != "id"}
    return ExerciseShown(id=done.number, **fields)


def _id(call: Call) -> int:
    return int(call.place["incident_id"])


def _reaches(given: list[ReachBody]) -> list[Reach]:
    return [Reach(one.kind, one.object, one.begins_at, one.ends_at or _now()) for one in given]


def _fields(incident: Incident) -> dict[str, Any]:
    decision, authority = clocks(incident.aware_at)
    return asdict(incident) | {
        "id": incident.incident_id,
        "decide_by": decision.due,
        "authority_by": authority.due,
        "stage": incident.stage(_now()),
    }


def _whole(incident: Incident, reaches: list[Reach]) -> WholeShown:
    return WholeShown(**_fields(incident), reaches=[ReachShown.model_validate(each) for each in reaches])


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


_INCIDENTS: Final = "/incidents"
_INCIDENT: Final = f"{_INCIDENTS}/{{incident_id}}"
OPERATIONS: Final = (
    Operation(
        name="incidents.list", method="GET", path=_INCIDENTS, summary="List the incidents, newest first.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_list, query=IncidentsQuery,
        answer=IncidentShown,
    ),
    Operation(
        name="incidents.open", method="POST", path=_INCIDENTS,
        summary="Enter an incident. 72 hours after `aware_at` the authority has to know.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_open, replay=_made, body=IncidentBody,
        answer=WholeShown, makes=True, problems=("ahead", "bad_reach", "bad_text"),
    ),
    Operation(
        name="incidents.drill", method="POST", path=f"{_INCIDENTS}/drill",
        summary="Exercise: enter an incident, find who is affected, draft both notices and close it. Nobody is told.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_drill, body=ExerciseBody,
        answer=ExerciseShown, problems=("bad_reach",),
    ),
    Operation(
        name="incidents.get", method="GET", path=_INCIDENT, summary="Show an incident, its clocks and what it reached.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_get, answer=WholeShown,
    ),
    Operation(
        name="incidents.change", method="PATCH", path=_INCIDENT,
        summary="State more of an incident, that the authority was told, or that it reached more.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_change, body=ChangeBody, answer=WholeShown,
        problems=("ahead", "bad_reach", "bad_text"),
    ),
    Operation(
        name="incidents.close", method="POST", path=f"{_INCIDENT}/close",
        summary="Close an incident for good. It stays in the register.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), proven=True, handler=_close, body=CloseBody,
        answer=WholeShown, problems=("closed_already",),
    ),
    Operation(
        name="incidents.list_of_account", method="GET", path="/accounts/{account_id}/incidents",
        summary="List the incidents of which an account's people were told, newest first.",
        access=(Permission.PRIVACY_READ,), handler=_list_of_account, query=PageQuery, answer=ToldShown,
    ),
)  # fmt: skip
