"""How strictly the privacy policy is taken, and where a configuration falls short of it.

security.policy: strict    `serve` and `config check` refuse what falls short, each with its place
security.policy: standard  it works, and `doctor` says which sentence of the policy does not hold
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import Field

from luntrex_proxy.core.listening import ListenError, is_loopback_host, parse_listen
from luntrex_proxy.settings.listeners import TERMINATED, TlsFiles
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Loc, Section
from luntrex_proxy.settings.urls import host_of, parse_proxy_url

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings
    from luntrex_proxy.settings.upstreams import Upstream

AT_REST: Final = "Secrets at rest are protected by our cloud provider KMS."
IN_TRANSIT: Final = "Data in transit uses TLS."
_SEALED: Final = "must be sealed: write {sealed: NAME} and run `luntrex-proxy secrets set NAME`"
_KEY_FILE: Final = (
    "lies on a disk in plain text: let systemd keep it encrypted (LoadCredentialEncrypted=) and name the file under "
    "/run/credentials/"
)
_IN_MEMORY: Final = Path("/run")
_CREDENTIAL: Final = "write it as {credential: NAME}, which systemd keeps encrypted (LoadCredentialEncrypted=)"


class Security(Section):
    """How strictly the privacy policy is taken."""

    policy: Literal["standard", "strict"] = Field(
        "standard",
        description="strict: a local wrapping key, secrets that are not sealed, private keys of TLS on a disk, and "
        "connections without verified TLS are refused. standard: they work, and `doctor` names the sentence of the "
        "privacy policy that does not hold.",
    )


@dataclass(frozen=True, slots=True)
class Shortfall:
    """A place of the configuration by which a sentence of the policy does not hold. `remedy` ends `<key> ...`."""

    loc: Loc
    sentence: str
    remedy: str


def shortfalls(settings: "Settings") -> Iterator[Shortfall]:
    """Everything in which `settings` falls short of the policy."""
    for loc, remedy in _unprotected(settings):
        yield Shortfall(loc, AT_REST, remedy)
    for loc, remedy in _unencrypted(settings):
        yield Shortfall(loc, IN_TRANSIT, remedy)


Found = Iterator[tuple[Loc, str]]


def _unprotected(settings: "Settings") -> Found:
    if settings.sealing.kms.key_id is None:
        yield (
            ("sealing", "kms", "key_id"),
            "must name a key of AWS KMS: without one the wrapping key is on this machine",
        )
    for number, upstream in enumerate(settings.upstreams):
        if upstream.api_key is not None and not upstream.api_key.sealed_name:
            yield ("upstreams", number, "api_key"), _SEALED
        if _is_loose(upstream.proxy) and "@" in _text(upstream.proxy):
            yield ("upstreams", number, "proxy"), f"holds a password: {_CREDENTIAL}"
    webhook = settings.alerts.webhook.secret
    if _is_loose(webhook) and webhook is not None and not webhook.sealed_name:
        yield ("alerts", "webhook", "secret"), _SEALED
    for key in ("url", "direct_url"):
        url = getattr(settings.database, key)
        if _is_loose(url) and _has_password(_text(url)):
            yield ("database", key), f"holds a password: {_CREDENTIAL}, or use a client certificate"
    for loc, file in _key_files(settings):
        if not file.is_relative_to(_IN_MEMORY):
            yield loc, _KEY_FILE
    if _is_loose(settings.mail.password):
        yield ("mail", "password"), f"is not protected at rest: {_CREDENTIAL}"


def _key_files(settings: "Settings") -> Iterator[tuple[Loc, Path]]:
    """The files with private keys of TLS."""
    for plane in ("gateway", "control"):
        tls = getattr(settings, plane).tls
        if isinstance(tls, TlsFiles):
            yield (plane, "tls", "key_file"), tls.key_file
    for number, upstream in enumerate(settings.upstreams):
        if upstream.client_key_file is not None:
            yield ("upstreams", number, "client_key_file"), upstream.client_key_file
        elif upstream.client_certificate_file is not None:
            yield ("upstreams", number, "client_certificate_file"), upstream.client_certificate_file
    for key in ("url", "direct_url"):
        for file in parse_qs(urlsplit(_text(getattr(settings.database, key))).query).get("sslkey", []):
            yield ("database", key), Path(file)


def _unencrypted(settings: "Settings") -> Found:
    for number, upstream in enumerate(settings.upstreams):
        for key, remedy in _open_ways(upstream):
            yield ("upstreams", number, key), remedy
    for key in ("url", "direct_url"):
        url = _text(getattr(settings.database, key))
        if url and not all(map(_is_here, _database_hosts(url))) and _ssl_mode(url) != "verify-full":
            yield ("database", key), "must have sslmode=verify-full: the way to it is not this machine's own"
    for plane in ("gateway", "control"):
        section = getattr(settings, plane)
        for number, listen in enumerate(section.listen):
            if section.tls == TERMINATED and not _is_loopback(listen):
                remedy = (
                    f"is reached over plain HTTP by the proxy in front: set {plane}.tls to a cert_file and key_file"
                )
                yield (plane, "listen", number), remedy
    for section_name in ("gateway", "console"):
        public_url = getattr(settings, section_name).public_url
        if public_url is not None and public_url.startswith("http:") and not is_loopback_host(host_of(public_url)):
            yield (section_name, "public_url"), "must start with https://"


def _open_ways(upstream: "Upstream") -> Iterator[tuple[str, str]]:
    if not upstream.endpoint.tls and not is_loopback_host(upstream.endpoint.host):
        yield "base_url", "must start with https://: prompts and the key cross the network"
    if upstream.proxy is not None and upstream.proxy.is_readable():
        host, _, credentials = parse_proxy_url(upstream.proxy.reveal())
        if credentials and not is_loopback_host(host):
            yield "proxy", "must not have a password: it crosses the network readable"


def _is_loose(secret: Secret | None) -> bool:
    """Whether a secret lies somewhere in plain text: in the configuration, the environment or a file."""
    return secret is not None and not (isinstance(secret.written, dict) and "credential" in secret.written)


def _text(secret: Secret | None) -> str:
    return secret.reveal() if secret is not None and secret.is_readable() else ""


def _has_password(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.password) or "password" in parse_qs(parts.query)


def _ssl_mode(url: str) -> str:
    return parse_qs(urlsplit(url).query).get("sslmode", [""])[-1].replace("_", "-")


def _database_hosts(url: str) -> list[str]:
    """Every host that the driver may connect to; "" for its default, which is a socket here."""
    parts = urlsplit(url)
    places = [place for place in parts.netloc.rpartition("@")[2].split(",") if place]
    places += [host for given in parse_qs(parts.query).get("host", []) for host in given.split(",")]
    return [unquote(urlsplit(f"//{place}").hostname or place) if place[0] != "/" else place for place in places]


def _is_here(host: str) -> bool:
    return host.startswith("/") or is_loopback_host(host)


def _is_loopback(listen: str) -> bool:
    try:
        return parse_listen(listen).is_loopback
    except ListenError:
        return True  # told elsewhere
