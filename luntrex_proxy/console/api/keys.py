"""/accounts/{account_id}/keys: API keys. A new key is in the answer that makes it, and nowhere else ever again."""

from datetime import datetime
from typing import Any, Final, Literal

from pydantic import Field

from luntrex_proxy.console.api.operations import (
    Body,
    Call,
    Listed,
    Made,
    Operation,
    PageQuery,
    Shown,
    Tagged,
    Time,
    page,
)
from luntrex_proxy.console.api.problems import invalid
from luntrex_proxy.console.api.reading import version_of
from luntrex_proxy.control import keys
from luntrex_proxy.control.keys import KeyInfo, NewKey, Terms
from luntrex_proxy.core.labels import NAMES_MAX
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.core.scope import ENTRIES_MAX, Scope, read_scope
from luntrex_proxy.settings.scopes import NAME_PATTERN, ClientNetwork, Endpoint, LabelName, LabelValue, Model, Region

_READ: Final = (Permission.KEYS_READ, Permission.KEYS_WRITE, Permission.KEYS_OWN)
_CHANGE: Final = (Permission.KEYS_WRITE, Permission.KEYS_OWN)


def _limit_of(words: str) -> Any:
    return Field(None, min_length=1, max_length=ENTRIES_MAX, description=f"Only these {words}; null: any.")


class LimitBody(Body):
    """What a key is limited to. A kind that is not named stays as it is."""

    endpoints: list[Endpoint] | None = _limit_of("endpoints")
    models: list[Model] | None = _limit_of("models, by name, or by beginning and `*`")
    regions: list[Region] | None = _limit_of("regions of upstreams")
    networks: list[ClientNetwork] | None = _limit_of("networks of clients")

    def scope(self) -> Scope:
        """What the words say."""
        return read_scope(self.endpoints or (), self.models or (), self.regions or (), self.networks or ())


class KeyBody(LimitBody):
    """A new key."""

    name: str = Field(pattern=NAME_PATTERN, description="One name is one live key of an account.")
    owner: Literal["me", "account"] = Field(
        "me", description="me: one's own, its single requests are for one's own eyes; account: a service's."
    )
    not_before: Time | None = Field(None, description="When it begins to work; null: at once.")
    expires_at: Time | None = Field(None, description="When it ends; null: never.")
    labels: dict[LabelName, LabelValue] = Field(
        default_factory=dict, max_length=NAMES_MAX, description="Of those that the account declares, by name."
    )


class RotateBody(Body):
    """How a key is replaced."""

    overlap_s: int = Field(
        86_400, ge=0, le=int(keys.LONGEST_OVERLAP_S), description="Seconds that the old key still works."
    )


class KeyShown(Shown):
    """An API key, without its secret."""

    id: str
    account_id: int
    name: str
    owner: str | None = Field(description="The member whose own it is; null: the account's.")
    state: Literal["active", "suspended", "revoked", "expired", "not yet valid", "account suspended"]
    not_before: datetime | None
    expires_at: datetime | None
    rotated_from: str | None
    revoked_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None
    endpoints: list[str] | None
    models: list[str] | None
    regions: list[str] | None
    networks: list[str] | None
    labels: dict[str, str] = Field(description="That it carries now, by name.")


class NewKeyShown(KeyShown):
    """A key just made."""

    key: str = Field(description="The key itself, this once.")


async def _list(call: Call) -> Listed:
    after = None if call.after is None else (datetime.fromisoformat(call.after[0]), call.after[1])
    found = await keys.list_page(call.services.pool, call.person, call.account_id, after, call.rows)
    return page(call, found, _shown, lambda key: (key.created_at, key.key_id))


async def _create(call: Call) -> Made:
    body: KeyBody = call.body
    terms = Terms(body.not_before, body.expires_at, body.scope(), body.labels)
    own = body.owner == "me"
    return _made(await keys.create(call.services, call.person, call.account_id, body.name, terms, own=own))


async def _get(call: Call) -> Tagged:
    return _tagged(await keys.get(call.services.pool, *_whose(call)))


async def _limit(call: Call) -> Tagged:
    kinds = call.body.model_fields_set
    if not kinds:
        raise invalid("", "must name what is to be changed")
    version = version_of(call.if_match)
    return _tagged(await keys.limit(call.services.pool, *_whose(call), call.body.scope(), kinds, version))


async def _rotate(call: Call) -> Made:
    return _made(await keys.rotate(call.services, *_whose(call), call.body.overlap_s))


async def _suspend(call: Call) -> Tagged:
    return _tagged(await keys.suspend(call.services.pool, *_whose(call)))


async def _resume(call: Call) -> Tagged:
    return _tagged(await keys.resume(call.services.pool, *_whose(call)))


async def _revoke(call: Call) -> Tagged:
    return _tagged(await keys.revoke(call.services.pool, *_whose(call)))


def _whose(call: Call) -> tuple[Any, int, str]:
    return call.person, call.account_id, call.place["key_id"]


def _fields(key: KeyInfo) -> dict[str, Any]:
    return {"id": key.key_id, "owner": key.person_id} | {
        name: getattr(key, name) for name in KeyShown.model_fields if name not in ("id", "owner")
    }


def _shown(key: KeyInfo) -> KeyShown:
    return KeyShown(**_fields(key))


def _tagged(key: KeyInfo) -> Tagged:
    return Tagged(_shown(key), f'"{key.version}"')


def _made(new: NewKey) -> Made:
    key = new.info
    location = f"/accounts/{key.account_id}/keys/{key.key_id}"
    return Made(NewKeyShown(**_fields(key), key=new.key), key.key_id, f'"{key.version}"', location)


_KEYS: Final = "/accounts/{account_id}/keys"
_KEY: Final = f"{_KEYS}/{{key_id}}"
OPERATIONS: Final = (
    Operation(
        name="keys.list", method="GET", path=_KEYS, summary="List an account's keys; developers see their own.",
        access=_READ, handler=_list, query=PageQuery, answer=KeyShown,
    ),
    Operation(
        name="keys.create", method="POST", path=_KEYS, summary="Make a key, and show it this once.",
        access=_CHANGE, proven=True, handler=_create, body=KeyBody, answer=NewKeyShown, makes=True, tagged=True,
        problems=("not_a_member", "name_taken", "account_suspended", "person_suspended", "bad_times",
                  "bad_labels"),
    ),
    Operation(
        name="keys.get", method="GET", path=_KEY, summary="Show a key, without its secret.",
        access=_READ, handler=_get, answer=KeyShown, tagged=True,
    ),
    Operation(
        name="keys.limit", method="PATCH", path=_KEY,
        summary="Change what a key is limited to; requests under way are not touched.",
        access=_CHANGE, handler=_limit, body=LimitBody, answer=KeyShown, tagged=True,
        problems=("key_ended", "limited_by_admin"),
    ),
    Operation(
        name="keys.rotate", method="POST", path=f"{_KEY}/rotate",
        summary="Make a successor, and show it this once; the old key works on for the overlap.",
        access=_CHANGE, proven=True, handler=_rotate, body=RotateBody, answer=NewKeyShown, makes=True, tagged=True,
        problems=("key_ended", "key_suspended", "key_rotated"),
    ),
    Operation(
        name="keys.suspend", method="POST", path=f"{_KEY}/suspend",
        summary="Stop a key until it is resumed; what runs with it is cut.",
        access=_CHANGE, handler=_suspend, answer=KeyShown, problems=("key_ended",),
    ),
    Operation(
        name="keys.resume", method="POST", path=f"{_KEY}/resume", summary="Let a suspended key work again.",
        access=_CHANGE, handler=_resume, answer=KeyShown,
        problems=("key_ended", "person_suspended", "suspended_by_admin"),
    ),
    Operation(
        name="keys.revoke", method="DELETE", path=_KEY, summary="End a key for good; what runs with it is cut.",
        access=_CHANGE, handler=_revoke, answer=KeyShown,
    ),
)  # fmt: skip
