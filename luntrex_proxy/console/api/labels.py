"""/accounts/{account_id}/labels, and those of its keys: a dimension of usage and bills, never taken from a request."""

from typing import Annotated, Final

from pydantic import Field

from luntrex_proxy.console.api.fields import Day
from luntrex_proxy.console.api.operations import Body, Call, Operation, Shown
from luntrex_proxy.control import labels
from luntrex_proxy.control.labels import Declaration
from luntrex_proxy.core.labels import NAMES_MAX, VALUES_MAX
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.scopes import LabelName, LabelValue


class LabelBody(Body):
    """What a label can be."""

    values: Annotated[list[LabelValue], Field(min_length=1, max_length=VALUES_MAX)] | None = Field(
        None, description="The values that keys can carry; null: any."
    )


class LabelShown(Shown):
    """A label that keys can carry."""

    name: str
    values: list[str] | None = Field(description="null: any value.")
    keys: int = Field(description="How many keys carry it now.")


class LabelsShown(Shown):
    """The labels of an account."""

    labels: list[LabelShown]


class KeyLabelsBody(Body):
    """Labels of a key that become others; those that are not named stay."""

    labels: dict[LabelName, LabelValue | None] = Field(
        min_length=1, max_length=NAMES_MAX, description="By name; null: not carried any more."
    )
    since: Day | None = Field(
        None, description="The first UTC day whose usage counts for it, not ahead; null: today. Days before stay."
    )


class KeyLabelsShown(Shown):
    """The labels that a key carries now."""

    labels: dict[str, str]


async def _list(call: Call) -> LabelsShown:
    found = await labels.list_declared(call.services.pool, call.account_id)
    return LabelsShown(labels=[_shown(each) for each in found])


async def _declare(call: Call) -> LabelShown:
    return _shown(await labels.declare(call.services.pool, call.account_id, call.place["label"], call.body.values))


async def _remove(call: Call) -> None:
    await labels.remove(call.services.pool, call.account_id, call.place["label"])


async def _of_key(call: Call) -> KeyLabelsShown:
    body: KeyLabelsBody = call.body
    key = await labels.of_key(call.services.pool, call.account_id, call.place["key_id"], body.labels, body.since)
    return KeyLabelsShown(labels=key.labels)


def _shown(each: Declaration) -> LabelShown:
    return LabelShown(name=each.name, values=None if each.allowed is None else sorted(each.allowed), keys=each.keys)


OPERATIONS: Final = (
    Operation(
        name="labels.list", method="GET", path="/accounts/{account_id}/labels",
        summary="Show the labels that keys of an account can carry.",
        access=(Permission.ACCOUNT_READ,), handler=_list, answer=LabelsShown,
    ),
    Operation(
        name="labels.declare", method="PUT", path="/accounts/{account_id}/labels/{label}",
        summary="Let keys carry a label with one of these values; an account has five labels at most.",
        access=(Permission.KEYS_WRITE,), handler=_declare, body=LabelBody, answer=LabelShown,
        problems=("bad_labels", "label_in_use"),
    ),
    Operation(
        name="labels.remove", method="DELETE", path="/accounts/{account_id}/labels/{label}",
        summary="Take a label back that no key carries any more; usage of before keeps it.",
        access=(Permission.KEYS_WRITE,), handler=_remove, problems=("label_in_use",),
    ),
    Operation(
        name="keys.label", method="PATCH", path="/accounts/{account_id}/keys/{key_id}/labels",
        summary="Give a key labels from a day on: usage of a day counts for the label of that day.",
        access=(Permission.KEYS_WRITE,), handler=_of_key, body=KeyLabelsBody, answer=KeyLabelsShown,
        problems=("bad_labels", "key_ended"),
    ),
)  # fmt: skip
