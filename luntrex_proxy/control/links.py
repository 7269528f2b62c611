"""One-time links: made for who is told of them, and where they lead. What each lets do: people.py, members.py.

A link is looked at by GET and used by POST only: programs that open every link of a letter use nothing up.
"""

import uuid
from typing import Final

from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import new_token, token_hash
from luntrex_proxy.core.listening import HostPort, parse_listen
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import links as table
from luntrex_proxy.store.database import Connection, store_errors
from luntrex_proxy.store.links import DeadLinkError, Link

__all__ = ["DeadLinkError", "Link", "console_url", "look_at", "make", "make_first", "url_of"]
PATH: Final = "/link"
_TOKEN_CHARACTERS_MAX: Final = 64
_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- replaced, not bound


def console_url(settings: Settings) -> str:
    """Where people reach the console: its public URL, else the first TCP listener of the control plane."""
    if settings.console.public_url:
        return settings.console.public_url.rstrip("/")
    for text in settings.control.listen:
        place = parse_listen(text)
        if isinstance(place, HostPort) and place.port:
            host = _WILDCARDS.get(place.host, place.host)
            scheme = "http" if settings.control.tls is None else "https"
            return f"{scheme}://{f'[{host}]' if ':' in host else host}:{place.port}"
    return "http://CONSOLE"


def url_of(base: str, token: str) -> str:
    """The link itself."""
    return f"{base}{PATH}?token={token}"


async def make(
    connection: Connection,
    kind: str,
    *,
    person_id: uuid.UUID | None = None,
    invitation_id: uuid.UUID | None = None,
    by_mail: bool = False,
    email: str | None = None,
) -> str:
    """A new link's token, in the caller's transaction. It is nowhere but in what is returned."""
    token = new_token()
    await table.make(
        connection,
        token_hash(token),
        kind,
        person_id=person_id,
        invitation_id=invitation_id,
        by_mail=by_mail,
        email=email,
    )
    return token


async def make_first(services: Services) -> str:
    """The token by which the first person comes in; the one before works no more."""
    with store_errors("make the first link"):
        async with services.pool.acquire() as connection, connection.transaction():
            return await make(connection, "first")


async def look_at(services: Services, token: str) -> Link:
    """What a link would let do; uses nothing up. DeadLinkError."""
    found = None if len(token) > _TOKEN_CHARACTERS_MAX else await table.look_at(services.pool, token_hash(token))
    if found is None:
        raise DeadLinkError
    return found
