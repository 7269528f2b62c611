"""/registry: the register of sub-processors, for who runs the installation. What everybody may see: /subprocessors."""

import time
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.fields import Day, PublicLine
from luntrex_proxy.console.api.operations import (
    PARAMETERS,
    Body,
    Call,
    Listed,
    Made,
    Operation,
    PageQuery,
    Shown,
    Who,
    page,
)
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.control import registry
from luntrex_proxy.control.registry import BadEntryError, Entry, Place
from luntrex_proxy.core.roles import Permission

_Text = Annotated[PublicLine, Field(max_length=500)]
_Host = Annotated[str, Field(pattern=r"^[.]?[A-Za-z0-9][A-Za-z0-9.:_-]{0,252}$")]
_NAMES: Final = {"kept": "retention"}  # what people call it


class PlaceShown(Shown):
    """A remote place of the configuration, or an entry that nothing uses now."""

    place: str
    purpose: str
    subprocessor: str | None = Field(description="The entry that covers it; null: none.")
    state: str = Field(description="complete, or why it is not.")
    used: bool = Field(description="Whether anything is sent there.")
    why: str | None


class EntryBody(Body):
    """What to set of an entry; what is left out stays as it was."""

    hosts: list[_Host] | None = Field(None, min_length=1, max_length=50, description="`.example.com`: any below.")
    purpose: _Text | None = Field(None, description="What they do for you.")
    region: _Text | None = Field(None, description="Where they process data, in the word of upstreams[].region.")
    retention: _Text | None = Field(None, description="What they keep: none, or as in abuse_monitoring:30.")
    training: Literal["never", "unless_opted_out", "yes"] | None = Field(None, description="Whether they train on it.")
    agreement: _Text | None = Field(None, description="Reference of the data processing agreement.")
    agreed_on: Day | None = Field(None, description="Its date.")
    commitments: _Text | None = Field(None, description="What they are bound to: confidentiality, security.")
    evidence: _Text | None = Field(None, description="Where that can be read.")
    next_review: Day | None = Field(None, description="Until when the entry counts: 12 months at most.")
    in_use: bool = Field(False, description="Accounts' data goes there already: it holds at once.")


class NewEntryBody(EntryBody):
    """A new entry. Nothing is sent there until all of it is stated."""

    name: str = Field(pattern=f"^{PARAMETERS['subprocessor'][0]}$", description="Its name, which stays.")
    hosts: list[_Host] = Field(min_length=1, max_length=50, description="`.example.com`: any below.")


class EntryShown(Shown):
    """One version of an entry. Empty: it is not stated."""

    id: str = Field(description="Its name.")
    version: int
    hosts: list[str]
    purpose: str
    region: str
    retention: str
    training: str
    agreement: str
    agreed_on: date | None
    commitments: str
    evidence: str
    next_review: date | None
    retired: bool
    announced_at: datetime
    effective_at: datetime = Field(description="From when it holds: what lets them do more is announced 30 days ahead.")
    missing: list[str] = Field(description="What nobody has said yet; until then nothing is sent there.")


async def _list(call: Call) -> Listed:
    after = () if call.after is None else tuple(call.after)
    found = sorted(await registry.places(call.services.pool, call.services.settings_now, _now()), key=_order)
    rows = [each for each in found if _order(each) > after][: call.rows]
    return page(call, rows, PlaceShown.model_validate, _order)


def _order(place: Place) -> tuple[str, str]:
    return place.place, place.purpose


async def _versions(call: Call) -> Listed:
    after = 0 if call.after is None else call.after[0]
    found = await registry.versions(call.services.pool, call.place["subprocessor"])
    rows = [entry for entry in found if entry.entry_version > after][: call.rows]
    return page(call, rows, _shown, lambda entry: (entry.entry_version,))


async def _add(call: Call) -> Made:
    made = await _entered(call, call.body.name, is_known=False)
    return Made(_shown(made), made.name)


async def _added(call: Call, object_id: str) -> Made:
    return Made(_shown((await registry.versions(call.services.pool, object_id))[0]), object_id)


async def _set(call: Call) -> EntryShown:
    return _shown(await _entered(call, call.place["subprocessor"], is_known=True))


async def _entered(call: Call, name: str, *, is_known: bool) -> Entry:
    changes: dict[str, Any] = call.body.model_dump(exclude={"name", "in_use"}, exclude_none=True)
    if not changes:
        raise invalid("", "must say what to set")
    if "retention" in changes:
        changes["kept"] = changes.pop("retention")
    today, in_use = _now().date(), call.body.in_use
    try:
        return await registry.set_entry(call.services.pool, name, changes, today, in_use=in_use, is_known=is_known)
    except BadEntryError as error:
        raise invalid(f"/{_NAMES.get(error.field, error.field)}", str(error)) from None


async def _retire(call: Call) -> EntryShown:
    return _shown(await registry.retire(call.services.pool, call.place["subprocessor"]))


def _shown(entry: Entry) -> EntryShown:
    named = {
        "id": entry.name,
        "version": entry.entry_version,
        "retention": entry.kept,
        "missing": list(entry.missing()),
    }
    fields = {name: getattr(entry, name) for name in EntryShown.model_fields if name not in named}
    return EntryShown(**named | fields | {"hosts": list(entry.hosts)})


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


_ENTRY: Final = "/registry/{subprocessor}"
OPERATIONS: Final = (
    Operation(
        name="registry.list", method="GET", path="/registry",
        summary="List every remote place of the configuration, and what the register says of it.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_list, query=PageQuery, answer=PlaceShown,
    ),
    Operation(
        name="registry.add", method="POST", path="/registry",
        summary="Make an entry. What lets a sub-processor get more than before holds after 30 days.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_add, replay=_added, body=NewEntryBody,
        answer=EntryShown, makes=True, problems=("name_taken",),
    ),
    Operation(
        name="registry.versions", method="GET", path=_ENTRY, summary="List all versions of an entry, oldest first.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_READ,), handler=_versions, query=PageQuery, answer=EntryShown,
    ),
    Operation(
        name="registry.set", method="PATCH", path=_ENTRY,
        summary="Make a new version of an entry. What lets a sub-processor do more holds after 30 days.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_set, body=EntryBody, answer=EntryShown,
        problems=("unchanged",),
    ),
    Operation(
        name="registry.retire", method="DELETE", path=_ENTRY,
        summary="Let a sub-processor get nothing any more, within seconds; the entry stays in the register.",
        access=Who.OPERATOR, scopes=(Permission.PRIVACY_WRITE,), handler=_retire, answer=EntryShown,
        problems=("unchanged",),
    ),
)  # fmt: skip
