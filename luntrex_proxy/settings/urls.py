"""URLs in the configuration: an upstream's base URL as the dialect's SDK would use it, and our own public URL."""

import re
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.section import fault

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_DEFAULT_PORTS = {"https": 443, "http": 80}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an upstream is. `path` has no slash at its end; a route's `upstream_path` is appended to it."""

    tls: bool
    host: str
    port: int
    path: str


def parse_base_url(url: str, dialect: Dialect) -> Endpoint:
    """Where to send requests. OpenAI's path is kept as given (none means /v1); Anthropic's may have /v1 or not."""
    parts = _split(url)
    path = parts.path.rstrip("/")
    if dialect is Dialect.ANTHROPIC:
        path = path.removesuffix("/v1") + "/v1"
    return Endpoint(
        tls=parts.scheme == "https",
        host=parts.hostname or "",
        port=parts.port or _DEFAULT_PORTS[parts.scheme],
        path=path or "/v1",
    )


def _split(url: str) -> SplitResult:
    if not _VISIBLE.fullmatch(url):
        raise fault("must be a URL in plain ASCII without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise fault("is not a URL: the host or the port is wrong") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise fault("must start with https:// or http://")
    if parts.username is not None or parts.password is not None:
        raise fault("must not hold a user name or password; the key goes into api_key")
    if not parts.hostname or not _HOST.fullmatch(parts.hostname) or port == 0:
        raise fault("needs a host after the scheme, such as https://api.openai.com/v1")
    if "?" in url or "#" in url:
        raise fault("must not have a query or a fragment: only scheme, host, port and path")
    return parts


def _check(url: str) -> str:
    _split(url)
    return url.rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_check)]
