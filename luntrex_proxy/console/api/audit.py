"""/audit and /accounts/{account_id}/audit: who did what."""

from datetime import datetime
from typing import Any, Final

from pydantic import Field

from luntrex_proxy.console.api.fields import Moment
from luntrex_proxy.console.api.operations import (
    PARAMETERS,
    Call,
    Listed,
    Operation,
    PageQuery,
    Shown,
    Who,
    page,
)
from luntrex_proxy.control import acts, audit
from luntrex_proxy.core.roles import Permission

_WAY: Final = "[a-z]{1,20}( [a-z]{1,20})?"
_PERSON: Final = f"{PARAMETERS['person_id'][0]}|[!-~]{{1,64}}@[A-Za-z0-9.-]{{1,189}}"


class AuditQuery(PageQuery):
    """Which entries."""

    act: str | None = Field(
        None, pattern="^[a-z_]{1,40}[.][a-z_]{1,40}$", description="Only this act, such as `key.revoked`."
    )
    who: str | None = Field(
        None, pattern=f"^({_WAY}|{_PERSON})$",
        description="Only what was done by this person (mail address or id), or in this way, such as `command line`.",
    )  # fmt: skip
    since: Moment | None = Field(None, description="From when on.")
    until: Moment | None = Field(None, description="Before when.")


class EntryShown(Shown):
    """One act."""

    sequence: int = Field(description="Its number in the whole log.")
    at: datetime
    actor: str = Field(description="By which way, and the id of who: `console:...`, `token:...`, `command line`.")
    act: str
    object_id: str
    account: str | None
    facts: dict[str, Any] = Field(description="Ids, numbers and fixed words.")
    personal: dict[str, str] = Field(description="Words about people that were not erased.")


async def _of_account(call: Call) -> Listed:
    return await _page(call, call.account_id)


async def _all(call: Call) -> Listed:
    if call.after is None:
        await acts.record_read(call.services.pool, "audit.list")
    return await _page(call, None)


async def _page(call: Call, account_id: int | None) -> Listed:
    before = None if call.after is None else call.after[0]
    query: AuditQuery = call.query
    only = audit.Only(query.act, query.who, query.since, query.until)
    found = await audit.page(call.services.pool, account_id, only, before, call.rows)
    return page(call, found, EntryShown.model_validate, lambda entry: (entry.sequence,))


OPERATIONS: Final = (
    Operation(
        name="audit.list_of_account", method="GET", path="/accounts/{account_id}/audit",
        summary="List who did what to an account, newest first.",
        access=(Permission.AUDIT_READ,), handler=_of_account, query=AuditQuery, answer=EntryShown,
    ),
    Operation(
        name="audit.list", method="GET", path="/audit", summary="List who did what in the installation, newest first.",
        access=Who.OPERATOR, scopes=(Permission.AUDIT_READ,), handler=_all, query=AuditQuery, answer=EntryShown,
    ),
)  # fmt: skip
