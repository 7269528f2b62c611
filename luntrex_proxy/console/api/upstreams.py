"""/upstreams: how they are just now, as this process sees them, and which are in maintenance."""

from datetime import datetime
from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.fields import PublicLine
from luntrex_proxy.console.api.operations import Body, Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import upstreams
from luntrex_proxy.control.upstreams import ORIGIN, Seen
from luntrex_proxy.core.health import Condition
from luntrex_proxy.core.roles import Permission


class MaintenanceBody(Body):
    """Why nothing new goes there."""

    reason: PublicLine = Field("", max_length=200, description="For the other operators; in nobody's answers.")


class UpstreamShown(Shown):
    """An upstream and how it is. What it is the configuration file says: it cannot be changed here."""

    name: str
    origin: Literal["file"] = Field(description="file: only the configuration file changes it.")
    health: Literal["good", "doubtful", "avoided"] = Field(
        description="good: asked as usual; doubtful: only after others, or to find out; avoided: not at all."
    )
    standing: str = Field(
        description="ready, ejected (too many errors), paused (it said Retry-After for a model), probe_fails, "
        "breaker_open, trying (a request will find out) or maintenance."
    )
    in_flight: int = Field(description="Requests under way there, of this process.")
    last_error: str | None = Field(description="A refusal code or http_STATUS; null: none since the start.")
    last_error_age_s: int | None
    maintenance_since: datetime | None = Field(description="null: it is not in maintenance.")
    maintenance_reason: str | None


async def _list(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    conditions = {condition.name: condition for condition in call.services.upstreams(())}
    names = [name for name in sorted(conditions) if name > after][: call.rows]
    seen = await upstreams.list_all(call.services.pool, names, conditions.values())
    return page(call, seen, _shown, lambda each: (each.name,))


async def _begin(call: Call) -> UpstreamShown:
    body: MaintenanceBody = call.body
    name, services = call.place["upstream"], call.services
    await upstreams.begin_maintenance(services.pool, _names(call), name, body.reason)
    (seen,) = await upstreams.list_all(services.pool, (name,), services.upstreams(()))
    return _shown(seen)


async def _end(call: Call) -> None:
    await upstreams.end_maintenance(call.services.pool, _names(call), call.place["upstream"])


def _names(call: Call) -> list[str]:
    return [condition.name for condition in call.services.upstreams(())]


def _shown(seen: Seen) -> UpstreamShown:
    condition = seen.condition or Condition(seen.name, "ready", 1.0, 0, maintenance=False)
    maintained = seen.maintained
    standing = "maintenance" if maintained is not None else condition.standing
    value = 0.0 if maintained is not None else condition.health
    return UpstreamShown(
        name=seen.name,
        origin=ORIGIN,
        health="good" if value == 1 else "avoided" if value == 0 else "doubtful",
        standing=standing,
        in_flight=condition.in_flight,
        last_error=condition.last_error or None,
        last_error_age_s=condition.last_error_age_s,
        maintenance_since=None if maintained is None else maintained.since,
        maintenance_reason=None if maintained is None else maintained.reason,
    )


OPERATIONS: Final = (
    Operation(
        name="upstreams.list", method="GET", path="/upstreams", summary="List the upstreams and how they are.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_READ,), handler=_list, query=PageQuery, answer=UpstreamShown,
    ),
    Operation(
        name="upstreams.begin_maintenance", method="PUT", path="/upstreams/{upstream}/maintenance",
        summary="Let nothing new go to an upstream, everywhere within a second; what runs there goes on.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_begin, body=MaintenanceBody,
        answer=UpstreamShown, problems=("no_upstream", "bad_text"),
    ),
    Operation(
        name="upstreams.end_maintenance", method="DELETE", path="/upstreams/{upstream}/maintenance",
        summary="Let requests go to an upstream again. Of one that is in no maintenance nothing changes.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_end, problems=("no_upstream",),
    ),
)  # fmt: skip
