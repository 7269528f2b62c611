"""/subprocessors: who else gets data, for everybody; and /accounts/{account_id}/objections to them."""

from datetime import date
from typing import Final

from pydantic import Field

from luntrex_proxy.console.api.operations import Call, Operation, Shown, Who
from luntrex_proxy.control import subprocessors
from luntrex_proxy.core.roles import Permission


class SubprocessorShown(Shown):
    """One sub-processor. Empty: it is not stated."""

    name: str
    hosts: list[str]
    purpose: str
    region: str
    retention: str
    training: str
    agreement: str
    commitments: str
    evidence: str
    next_review: date | None
    state: str = Field(description="complete, or why it is not; pending: from `effective_on` on.")
    used: bool = Field(description="Whether anything is sent there now.")
    effective_on: date | None


class SubprocessorsShown(Shown):
    """The present list, and what is announced."""

    subprocessors: list[SubprocessorShown]


class ObjectionsShown(Shown):
    """The sub-processors that get nothing of the account."""

    objections: list[str]


async def _list(call: Call) -> SubprocessorsShown:
    found = await subprocessors.public_list(call.services)
    return SubprocessorsShown(subprocessors=[SubprocessorShown.model_validate(one) for one in found])


async def _objections(call: Call) -> ObjectionsShown:
    return ObjectionsShown(objections=await subprocessors.objections(call.services, call.account_id))


async def _object(call: Call) -> ObjectionsShown:
    await subprocessors.object_to(call.services, call.account_id, call.place["subprocessor"])
    return await _objections(call)


async def _withdraw(call: Call) -> ObjectionsShown:
    await subprocessors.withdraw(call.services, call.account_id, call.place["subprocessor"])
    return await _objections(call)


OPERATIONS: Final = (
    Operation(
        name="subprocessors.list", method="GET", path="/subprocessors",
        summary="List who else gets data of this installation, and what is announced.",
        access=Who.ANYONE, handler=_list, answer=SubprocessorsShown,
    ),
    Operation(
        name="objections.list", method="GET", path="/accounts/{account_id}/objections",
        summary="List the sub-processors that an account objected to.",
        access=(Permission.PRIVACY_READ,), handler=_objections, answer=ObjectionsShown,
    ),
    Operation(
        name="objections.make", method="PUT", path="/accounts/{account_id}/objections/{subprocessor}",
        summary="Object to a sub-processor: within seconds nothing of the account goes there.",
        access=(Permission.PRIVACY_WRITE,), handler=_object, answer=ObjectionsShown,
    ),
    Operation(
        name="objections.withdraw", method="DELETE", path="/accounts/{account_id}/objections/{subprocessor}",
        summary="Take an objection back.",
        access=(Permission.PRIVACY_WRITE,), handler=_withdraw, answer=ObjectionsShown, problems=("no_objection",),
    ),
)  # fmt: skip
