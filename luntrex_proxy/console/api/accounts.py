"""/accounts: who keys and usage belong to."""

from datetime import datetime
from typing import Final, Literal

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
    Who,
    page,
)
from luntrex_proxy.console.api.reading import version_of
from luntrex_proxy.control import accounts
from luntrex_proxy.control.accounts import Account
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.settings.scopes import NAME_PATTERN

_POLICY: Final = (
    "What upstreams may do with requests, such as `region=eu; retention=none; training=never`; "
    "null: the installation's default."
)


class AccountsQuery(PageQuery):
    """Which accounts."""

    name: str | None = Field(None, pattern=NAME_PATTERN, description="Only those with this in their name.")
    status: Literal["active", "suspended"] | None = Field(None, description="Only those that are so.")


class AccountShown(Shown):
    """An account."""

    id: int
    name: str
    status: Literal["active", "suspended"]
    policy: str | None
    created_at: datetime
    member_requests: bool = Field(description="Whether owners see members' single requests, by its consent.")
    role: Role | None = Field(description="What the one who asks is in it; null: no member.")


class AccountBody(Body):
    """A new account."""

    name: str = Field(pattern=NAME_PATTERN, description="Its name, which stays.")
    policy: str | None = Field(None, max_length=1_024, description=_POLICY)


class PolicyBody(Body):
    """What can be changed of an account."""

    policy: str | None = Field(max_length=1_024, description=_POLICY)


async def _list(call: Call) -> Listed:
    after = 0 if call.after is None else call.after[0]
    part, status = call.query.name or "", call.query.status
    found = await accounts.list_page(call.services.pool, call.person, after, call.rows, part=part, status=status)
    return page(call, found, lambda account: _shown(call, account), lambda account: (account.account_id,))


async def _create(call: Call) -> Made:
    return _made(call, await accounts.create(call.services.pool, call.body.name, call.body.policy))


async def _created(call: Call, object_id: str) -> Made:
    return _made(call, await accounts.get(call.services.pool, int(object_id)))


async def _get(call: Call) -> Tagged:
    return _tagged(call, await accounts.get(call.services.pool, call.account_id))


async def _change(call: Call) -> Tagged:
    default = call.services.settings_now.policy.bound()
    version = version_of(call.if_match)
    changed = await accounts.set_policy(
        call.services.pool, default, call.person, call.account_id, call.body.policy, version
    )
    return _tagged(call, changed)


async def _suspend(call: Call) -> Tagged:
    return _tagged(call, await accounts.suspend(call.services.pool, call.account_id))


async def _resume(call: Call) -> Tagged:
    return _tagged(call, await accounts.resume(call.services.pool, call.account_id))


def _shown(call: Call, account: Account) -> AccountShown:
    return AccountShown(
        id=account.account_id,
        name=account.name,
        status=account.status,
        policy=account.policy,
        created_at=account.created_at,
        member_requests=Purpose.MEMBER_REQUESTS in account.consents,
        role=call.person.roles.get(account.account_id),
    )


def _tagged(call: Call, account: Account) -> Tagged:
    return Tagged(_shown(call, account), f'"{account.version}"')


def _made(call: Call, account: Account) -> Made:
    return Made(_shown(call, account), str(account.account_id), f'"{account.version}"')


OPERATIONS: Final = (
    Operation(
        name="accounts.list", method="GET", path="/accounts", summary="List the accounts one is in; operators see all.",
        access=Who.PERSON, handler=_list, query=AccountsQuery, answer=AccountShown,
    ),
    Operation(
        name="accounts.create", method="POST", path="/accounts", summary="Make an account.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_create, replay=_created,
        body=AccountBody, answer=AccountShown, makes=True, tagged=True, problems=("name_taken", "bad_policy"),
    ),
    Operation(
        name="accounts.get", method="GET", path="/accounts/{account_id}", summary="Show an account.",
        access=(Permission.ACCOUNT_READ,), handler=_get, answer=AccountShown, tagged=True,
    ),
    Operation(
        name="accounts.change", method="PATCH", path="/accounts/{account_id}",
        summary="Say what upstreams may do with an account's requests. Members can narrow the default only.",
        access=(Permission.ACCOUNT_WRITE,), handler=_change, body=PolicyBody, answer=AccountShown, tagged=True,
        problems=("wider_policy", "bad_policy"),
    ),
    Operation(
        name="accounts.suspend", method="POST", path="/accounts/{account_id}/suspend",
        summary="Stop all keys of an account, everywhere within a second.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_suspend, answer=AccountShown,
    ),
    Operation(
        name="accounts.resume", method="POST", path="/accounts/{account_id}/resume",
        summary="Let the keys of a suspended account work again.",
        access=Who.OPERATOR, scopes=(Permission.ACCOUNT_WRITE,), handler=_resume, answer=AccountShown,
    ),
)  # fmt: skip
