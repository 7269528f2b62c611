"""/upstreams: which of them are asked just now, as this process sees it."""

from typing import Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.core.roles import Permission


class UpstreamShown(Shown):
    """An upstream and how it is."""

    name: str
    health: Literal["good", "doubtful", "avoided"] = Field(
        description="good: asked as usual; doubtful: only after others, or to find out; avoided: not at all."
    )


async def _list(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    health = call.services.upstream_health()
    names = [name for name in sorted(health) if name > after][: call.rows]
    return page(call, names, lambda name: _shown(name, health[name]), lambda name: (name,))


def _shown(name: str, value: float) -> UpstreamShown:
    return UpstreamShown(name=name, health="good" if value == 1 else "avoided" if value == 0 else "doubtful")


OPERATIONS: Final = (
    Operation(
        name="upstreams.list", method="GET", path="/upstreams", summary="List the upstreams and how they are.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_READ,), handler=_list, query=PageQuery, answer=UpstreamShown,
    ),
)  # fmt: skip
