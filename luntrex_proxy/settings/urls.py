"""URLs in the configuration: an upstream's base URL as the dialect's SDK would use it, our own, the database's."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import AfterValidator

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.section import fault

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_DEFAULT_PORTS = {"https": 443, "http": 80}
_DATABASE_HOST = re.compile(r"(?:\[(?P<ipv6>[^\]]+)\]|(?P<name>[^\s\[\]@:/]+)|/\S*)(?::(?P<port>[0-9]{0,5}))?")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


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


def parse_proxy_url(url: str) -> tuple[str, int, str]:
    """Host, port and user:password (or nothing) of a CONNECT proxy. The sentence is fixed: the URL holds a password."""
    sentence = "must be http://host:port or http://user:password@host:port (characters such as / @ : # are written %XX)"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise fault(sentence) from None
    plain = _VISIBLE.fullmatch(url) and parts.scheme == "http" and parts.path in {"", "/"} and not set("?#") & set(url)
    if not plain or not parts.hostname or not _HOST.fullmatch(parts.hostname) or not port:
        raise fault(sentence)
    credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return parts.hostname, port, credentials


def check_database_url(url: str) -> None:
    """Refuse what the driver could not read. Every sentence is fixed: the URL holds a password."""
    if not url.startswith(("postgresql://", "postgres://")):
        raise fault("must start with postgresql://")
    try:
        parts = urlsplit(url)
        query = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise fault("is not a URL: the host or what follows the ? is wrong") from None
    hosts = [parts.netloc.partition("@")[2] if "@" in parts.netloc else parts.netloc, *query.get("host", [])]
    ports = ",".join(query.get("port", [])).split(",")
    # A # in the password would silently end the URL there.
    if parts.fragment or not all(map(_are_database_hosts, hosts)) or not all(map(_is_port, ports)):
        raise fault(
            "is not a URL: the host or the port is wrong (characters such as / @ : # in the password are written %XX)"
        )
    if any(mode.replace("_", "-") not in _SSL_MODES for mode in query.get("sslmode", [])):
        raise fault(f"sslmode must be {', '.join(_SSL_MODES[:-1])} or {_SSL_MODES[-1]}")


def host_of(url: str) -> str:
    """The host of a checked URL."""
    return urlsplit(url).hostname or ""


def _are_database_hosts(text: str) -> bool:
    """Whether it is nothing (the driver's default) or a list: host, host:port, [IPv6]:port, %2Fsocket or /socket."""
    return not text or all(map(_is_database_host, text.split(",")))


def _is_database_host(text: str) -> bool:
    found = _DATABASE_HOST.fullmatch(text)
    if not found or not _is_port(found["port"] or ""):
        return False
    if found["ipv6"]:
        try:
            ipaddress.IPv6Address(unquote(found["ipv6"]))
        except ValueError:
            return False
    return True


def _is_port(text: str) -> bool:
    return not text or bool(re.fullmatch("[0-9]{1,5}", text) and 0 < int(text) < 65_536)


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
