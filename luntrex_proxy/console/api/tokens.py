"""/me/tokens: one's own personal access tokens. Made and shown by who is signed in; a token can only end itself."""

from datetime import date, datetime
from typing import Any, Final

from pydantic import Field

from luntrex_proxy.console.api.operations import (
    Body,
    Call,
    Listed,
    Made,
    Operation,
    PageQuery,
    Shown,
    Time,
    Who,
    page,
)
from luntrex_proxy.console.api.problems import Problem
from luntrex_proxy.control import tokens
from luntrex_proxy.control.access import NotFoundError
from luntrex_proxy.control.tokens import TokenInfo
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.settings.scopes import NAME_PATTERN


class TokenBody(Body):
    """A new token."""

    name: str = Field(pattern=NAME_PATTERN, description="What it is for.")
    scopes: list[Permission] = Field(
        min_length=1,
        max_length=len(Permission),
        description="What it may do at most; at each use the person's roles of that moment bound it further.",
    )
    expires_at: Time = Field(description="When it ends: within a year.")


class TokenShown(Shown):
    """A token, without its secret."""

    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime
    last_used_on: date | None
    revoked_at: datetime | None


class NewTokenShown(TokenShown):
    """A token just made."""

    token: str = Field(description="The token itself, this once.")


async def _list(call: Call) -> Listed:
    after = "" if call.after is None else call.after[0]
    found = await tokens.list_page(call.services.pool, call.person.person_id, after, call.rows)
    return page(call, found, lambda token: TokenShown(**_fields(token)), lambda token: (token.token_id,))


async def _create(call: Call) -> Made:
    body: TokenBody = call.body
    new = await tokens.create(call.services.pool, call.person, body.name, body.scopes, body.expires_at)
    return Made(NewTokenShown(**_fields(new.info), token=new.token), new.info.token_id)


async def _get(call: Call) -> TokenShown:
    found = await tokens.get(call.services.pool, call.person.person_id, call.place["token_id"])
    return TokenShown(**_fields(found))


async def _revoke(call: Call) -> TokenShown:
    token_id = call.place["token_id"]
    if call.person.token_id not in (None, token_id):
        raise Problem("sign_in")
    ended = await tokens.revoke(call.services.pool, call.person.person_id, token_id)
    if ended is None:
        raise NotFoundError
    return TokenShown(**_fields(ended))


def _fields(token: TokenInfo) -> dict[str, Any]:
    return {"id": token.token_id} | {name: getattr(token, name) for name in TokenShown.model_fields if name != "id"}


_TOKENS: Final = "/me/tokens"
_TOKEN: Final = f"{_TOKENS}/{{token_id}}"
OPERATIONS: Final = (
    Operation(
        name="tokens.list", method="GET", path=_TOKENS, summary="List one's tokens, ended ones too.",
        access=Who.SIGNED_IN, handler=_list, query=PageQuery, answer=TokenShown,
    ),
    Operation(
        name="tokens.create", method="POST", path=_TOKENS, summary="Make a token, and show it this once.",
        access=Who.SIGNED_IN, proven=True, handler=_create, body=TokenBody, answer=NewTokenShown, makes=True,
        problems=("bad_expiry",),
    ),
    Operation(
        name="tokens.get", method="GET", path=_TOKEN, summary="Show a token, without its secret.",
        access=Who.SIGNED_IN, handler=_get, answer=TokenShown,
    ),
    Operation(
        name="tokens.revoke", method="DELETE", path=_TOKEN, summary="End a token for good; a token can end itself.",
        access=Who.PERSON, handler=_revoke, answer=TokenShown, problems=("sign_in",),
    ),
)  # fmt: skip
