"""/attempts: requests that were refused for their key, counted by minute, key and network; no address is kept."""

from datetime import datetime
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Listed, Operation, PageQuery, Shown, Who, page
from luntrex_proxy.control import acts, attempts
from luntrex_proxy.core.roles import Permission


class AttemptShown(Shown):
    """Refusals of one kind in one minute."""

    at: datetime = Field(description="The minute's beginning.")
    key_id: str | None = Field(description="Which key was named; null: none of this installation.")
    account: str | None = Field(description="Whose key that is.")
    network: str = Field(description="Where from: a /24 or /48, `local`, or `others` for many.")
    code: str = Field(description="Why it was refused.")
    count: int


async def _list(call: Call, account_id: int | None) -> Listed:
    after = None if call.after is None else (call.after[0], call.after[1], call.after[2], call.after[3])
    found = await attempts.list_page(call.services.pool, account_id, after, call.rows)
    return page(call, found, AttemptShown.model_validate, lambda one: one.place)


async def _list_all(call: Call) -> Listed:
    await acts.record_read(call.services.pool, "attempts.list")
    return await _list(call, None)


async def _list_of_account(call: Call) -> Listed:
    return await _list(call, call.account_id)


OPERATIONS: Final = (
    Operation(
        name="attempts.list", method="GET", path="/attempts",
        summary="List how many requests were refused for their key, newest first.",
        access=Who.OPERATOR, scopes=(Permission.KEYS_READ,), handler=_list_all, query=PageQuery, answer=AttemptShown,
    ),
    Operation(
        name="attempts.list_of_account", method="GET", path="/accounts/{account_id}/attempts",
        summary="List how many requests that named an account's keys were refused, newest first.",
        access=(Permission.KEYS_READ,), handler=_list_of_account, query=PageQuery, answer=AttemptShown,
    ),
)  # fmt: skip
