"""Everywhere this program can connect to with a configuration: why, and what leaves the machine for there."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from luntrex_proxy.core.listening import is_loopback_address
from luntrex_proxy.settings.urls import host_of, parse_proxy_url

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings
    from luntrex_proxy.settings.sealing import Kms
    from luntrex_proxy.settings.upstreams import Upstream

_PROMPTS = "what clients send for it (prompts, parameters), its key; never a client's address, cookies or key of ours"
_PROBE = "a GET of {path} about every {every_s:g} s, with its key; nothing of a request"
_RECORDS = "records of requests (ids, counts, times, codes), account and key names, hashes of keys; never what was said"
_DATA_KEYS = "keys that encrypt secrets in the database, to be wrapped and unwrapped; never a secret itself"
_ALERTS = "ids of keys, networks of clients (no address) and counts of refused attempts"
_LETTERS = "addresses of people and the letters to them: invitations, links, notices; never what was said to a model"


@dataclass(frozen=True, slots=True)
class Destination:
    """One remote place."""

    place: str  # host:port, or a Unix socket
    tls: bool
    purpose: str
    leaves: str
    upstream: str = ""  # whose place, or whose proxy's, it is

    @property
    def host(self) -> str:
        """Its host name or address; "" for what is on this machine (a Unix socket, loopback) or is nobody's."""
        if self.place.startswith("/") or " " in self.place:
            return ""
        host = (urlsplit(f"//{self.place}").hostname or "").lower()
        return "" if host == "localhost" or is_loopback_address(host) else host


def destinations(settings: "Settings") -> Iterator[Destination]:
    """Every remote place of this configuration. There is no other: no update check, no telemetry, no price list."""
    for upstream in settings.upstreams:
        yield from _of_upstream(upstream)
    names = {urlsplit(f"//{one.place}").hostname or "" for one in map(_direct, settings.upstreams)}
    names |= {settings.mail.host} if settings.mail.host else set()
    names |= {host_of(settings.alerts.webhook.url)} if settings.alerts.webhook.url else set()
    names |= {kms_host(settings.sealing.kms)} if settings.sealing.kms.key_id else set()
    if any(not _is_address(name) for name in names):
        yield Destination("the system's resolver", False, "addresses of host names", "the host names of this list")
    if settings.mail.host is not None:
        place = f"[{settings.mail.host}]" if ":" in settings.mail.host else settings.mail.host
        yield Destination(f"{place}:{settings.mail.port}", settings.mail.security != "none", "mail to people", _LETTERS)
    if settings.alerts.webhook.url is not None:
        yield _of_webhook(settings.alerts.webhook.url)
    if settings.sealing.kms.key_id is not None:
        yield from _of_kms(settings.sealing.kms)
    for setting, purpose in (("url", "the database"), ("direct_url", "the database, for news of changed keys")):
        secret = getattr(settings.database, setting)
        if secret is not None and secret.is_readable():
            yield from _of_database(secret.reveal(), purpose)


def _of_upstream(upstream: "Upstream") -> Iterator[Destination]:
    direct = _direct(upstream)
    if upstream.proxy is not None and upstream.proxy.is_readable():
        host, port, _ = parse_proxy_url(upstream.proxy.reveal())
        sees = f"{direct.place} as the name of where to connect" if direct.tls else _PROMPTS
        what = f"proxy on the way to upstream {upstream.name}"
        yield Destination(f"{host}:{port}", False, what, sees, upstream.name)
    yield direct
    if upstream.probe is not None:
        leaves = _PROBE.format(path=upstream.probe.path or "the list of models", every_s=upstream.probe.every_s)
        yield replace(direct, purpose=f"probe of upstream {upstream.name}", leaves=leaves)


def _direct(upstream: "Upstream") -> Destination:
    endpoint = upstream.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    place = f"{host}:{endpoint.port}"
    return Destination(place, endpoint.tls, f"upstream {upstream.name}", _PROMPTS, upstream.name)


def _of_webhook(url: str) -> Destination:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return Destination(f"{host}:{port}", parts.scheme == "https", "alerts to the operator's webhook", _ALERTS)


def _of_kms(kms: "Kms") -> Iterator[Destination]:
    parts = urlsplit(kms.endpoint or f"https://{kms_host(kms)}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    yield Destination(f"{parts.hostname}:{port}", parts.scheme == "https", "AWS KMS, for the wrapping key", _DATA_KEYS)
    yield Destination(
        "AWS's metadata, container or token service",
        False,
        "credentials for AWS KMS",
        "the name of this machine's role",
    )


def kms_host(kms: "Kms") -> str:
    """The host that KMS is reached at."""
    domain = "amazonaws.com.cn" if kms.home_region.startswith("cn-") else "amazonaws.com"
    return urlsplit(kms.endpoint).hostname or "" if kms.endpoint else f"kms.{kms.home_region}.{domain}"


def _of_database(url: str, purpose: str) -> Iterator[Destination]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    hosts = [host for given in query.get("host", []) for host in given.split(",")]
    netloc = parts.netloc.rpartition("@")[2]
    places = [*(netloc.split(",") if netloc else ()), *hosts] or ["the driver's default"]
    tls = query.get("sslmode", [""])[0] in ("require", "verify-ca", "verify-full")
    for place in places:
        yield Destination(place, tls, purpose, _RECORDS)


def _is_address(name: str) -> bool:
    return ":" in name or name.replace(".", "").isdigit()
