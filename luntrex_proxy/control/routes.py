"""What accounts have of their own in routing, and whose request it is that the gateway is to explain."""

import dataclasses
import difflib
from collections.abc import Collection

from luntrex_proxy.control import accounts as control_accounts
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.accountroutes import AccountRoutes, BadRoutesError
from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.explanation import ACTIVE, Question
from luntrex_proxy.core.scope import ENDPOINTS
from luntrex_proxy.store import accountroutes as table
from luntrex_proxy.store import accounts, apikeys, budgets, callers, limitlevels
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError

_ROUTES = {route.name: route for route in ROUTES}


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """A request in words, of a key (by its id) or of an account (by its name)."""

    model: str
    key_id: str | None = None
    account: str | None = None
    endpoint: str | None = None
    region: str | None = None
    policy: str | None = None
    address: str | None = None


async def check_key(pool: Pool, account_id: int, key_id: str) -> None:
    """Raise NotFoundError unless it is a key of the account."""
    if await apikeys.find(pool, account_id, key_id) is None:
        raise NotFoundError


async def question(pool: Pool, asked: Asked) -> Question:
    """The same as the gateway takes it. RefusedError: there is no such key, account or endpoint."""
    if asked.endpoint is not None and asked.endpoint not in _ROUTES:
        known = ", ".join(name for name in ENDPOINTS if name in _ROUTES)
        raise RefusedError(f"{asked.endpoint!r} is no endpoint that takes a model; choose from {known}.", "invalid")
    state = ACTIVE
    if asked.key_id is not None:
        caller, state = await callers.of_key(pool, asked.key_id)
    else:
        caller = await callers.of_account(pool, asked.account or "")
        account = await accounts.get(pool, asked.account or "")
        state = ACTIVE if account.status == "active" else "account suspended"
    used = {
        each.budget_id: each.spent_pico + each.held_pico for each in await budgets.list_all(pool, caller.account_id)
    }
    items = [asked.policy or "", f"region={asked.region}" if asked.region else ""]
    return Question(
        caller=caller,
        model=asked.model,
        route=None if asked.endpoint is None else _ROUTES[asked.endpoint],
        policy="; ".join(filter(None, items)),
        address=asked.address,
        key_state=state,
        budgets_used=used,
        limits_used=await limitlevels.used(pool, caller.account_id),
    )


def refuse_unknown_upstreams(routes: AccountRoutes, known: Collection[str]) -> None:
    """Raise BadRoutesError when a target is none of the configuration's upstreams."""
    lost = sorted(routes.upstreams() - set(known))
    if lost:
        close = difflib.get_close_matches(lost[0], known, 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise BadRoutesError(f"The configuration has no upstream {lost[0]!r}{hint}.")


async def of_account(pool: Pool, account_id: int) -> AccountRoutes:
    """What the account has of its own. NotFoundError: there is no such account."""
    await control_accounts.get(pool, account_id)
    found = await table.list_all(pool, account_id)
    return found[0].routes if found else AccountRoutes()


async def set_of_account(pool: Pool, account_id: int, routes: AccountRoutes, known: Collection[str]) -> AccountRoutes:
    """Have exactly these. RefusedError: they cannot be."""
    account = await control_accounts.get(pool, account_id)

    def becomes(_before: AccountRoutes) -> AccountRoutes:
        refuse_unknown_upstreams(routes, known)
        return routes

    return await table.change(pool, account.name, becomes)
