"""What would happen to a request: whose it is is found out here, the rest is the gateway's to say."""

import dataclasses

from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.explanation import ACTIVE, Question
from luntrex_proxy.core.scope import ENDPOINTS
from luntrex_proxy.store import accounts, apikeys, callers
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
    items = [asked.policy or "", f"region={asked.region}" if asked.region else ""]
    return Question(
        caller=caller,
        model=asked.model,
        route=None if asked.endpoint is None else _ROUTES[asked.endpoint],
        policy="; ".join(filter(None, items)),
        address=asked.address,
        key_state=state,
    )
