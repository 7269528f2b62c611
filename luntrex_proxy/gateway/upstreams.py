"""Builds what `route` and `forward` use from the configured upstreams: origins, TLS contexts, constant headers.

A reload keeps what need not change: the pool of an upstream that is reached as before, and what is known of the
health and speed of an upstream that is still at the same place. Building changes nothing of what is in force.
"""

import asyncio
import ssl
from collections.abc import Mapping
from types import MappingProxyType

from luntrex_proxy import __version__
from luntrex_proxy.core.call import MODELS_OPENAI, Dialect
from luntrex_proxy.core.health import Health, HealthRules, Speed
from luntrex_proxy.core.retrying import Retries
from luntrex_proxy.core.wire.endusers import EndUserIds, EndUsers
from luntrex_proxy.gateway.http.dial import Dialer, Proxy
from luntrex_proxy.gateway.http.origin import Origin
from luntrex_proxy.gateway.http.ticker import Ticker
from luntrex_proxy.gateway.probe import Probe
from luntrex_proxy.gateway.route import Routing, Upstream
from luntrex_proxy.settings import upstreams as configured
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import PriceBook
from luntrex_proxy.settings.probes import UpstreamProbe
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.urls import parse_proxy_url

_ANTHROPIC_VERSION = "2023-06-01"  # the one there is; without it a list of models is refused


class UnusableUpstreamError(Exception):
    """An upstream's files can't be used; the text is one sentence."""


def build_routing(
    settings: Settings,
    ticker: Ticker,
    loop: asyncio.AbstractEventLoop,
    pseudonym_key: bytes,
    replaces: Routing | None = None,
    sealed: Mapping[str, str] = MappingProxyType({}),
) -> Routing:
    """What requests are routed by; `replaces` is what is in force, `sealed` has secrets by name.

    Raises UnusableUpstreamError.
    """
    old = {} if replaces is None else replaces.upstreams
    upstreams = {
        u.name: build_upstream(u, ticker, loop, pseudonym_key, old.get(u.name), sealed) for u in settings.upstreams
    }
    wanted = settings.gateway.retries
    return Routing(
        build_catalogue(settings.models, settings.upstreams),
        PriceBook(settings.upstreams, settings.prices.service_tiers.percents()),
        upstreams,
        settings.policy.bound(),
        Retries(wanted.tries, wanted.budget_percent, wanted.budget_floor),
        only_priced=settings.prices.unknown == "refuse",
    )


def sketch_routing(settings: Settings, ticker: Ticker, loop: asyncio.AbstractEventLoop) -> Routing:
    """The same, to look at: it needs no secret and no file, and nothing can be sent by it."""
    upstreams = {u.name: _sketch_upstream(u, ticker, loop) for u in settings.upstreams}
    catalogue = build_catalogue(settings.models, settings.upstreams)
    prices = PriceBook(settings.upstreams, settings.prices.service_tiers.percents())
    only_priced = settings.prices.unknown == "refuse"
    return Routing(catalogue, prices, upstreams, settings.policy.bound(), only_priced=only_priced)


def _sketch_upstream(upstream: configured.Upstream, ticker: Ticker, loop: asyncio.AbstractEventLoop) -> Upstream:
    rules = _health_rules(upstream)
    dialer = Dialer(host="nowhere.invalid", port=0, tls=None, loop=loop)
    return Upstream(
        name=upstream.name,
        dialect=upstream.dialect,
        origin=Origin(dialer, ticker),
        reached_by=(),
        health=Health(rules),
        health_rules=rules,
        speeds={},
        base_path=b"",
        fixed_headers=b"",
        inject_usage=upstream.inject_usage,
        traits=upstream.traits,
        store_false=upstream.store_false,
        end_users=None,
    )


def build_upstream(
    upstream: configured.Upstream,
    ticker: Ticker,
    loop: asyncio.AbstractEventLoop,
    pseudonym_key: bytes,
    old: Upstream | None = None,
    sealed: Mapping[str, str] = MappingProxyType({}),
) -> Upstream:
    """The running form of one configured upstream; `old` is what ran under its name. Raises UnusableUpstreamError.

    `pseudonym_key`: 32 bytes of this installation, so that an end user's pseudonym is the same after a restart.
    """
    reached_by = _reached_by(upstream)
    tls = _tls_context(upstream) if upstream.endpoint.tls else None
    same = old is not None and old.reached_by == reached_by and not _has_files(upstream)
    rules = _health_rules(upstream)
    stays = old if old is not None and old.reached_by[0] == reached_by[0] else None
    speeds: dict[str, Speed] = {} if stays is None else stays.speeds
    return Upstream(
        name=upstream.name,
        dialect=upstream.dialect,
        origin=old.origin if same and old is not None else _origin(upstream, tls, ticker, loop),
        reached_by=reached_by,
        health=Health(rules) if stays is None else stays.health,
        health_rules=rules,
        speeds=speeds,
        base_path=upstream.endpoint.path.encode(),
        fixed_headers=_fixed_headers(upstream, sealed),
        inject_usage=upstream.inject_usage,
        traits=upstream.traits,
        store_false=upstream.store_false,
        end_users=_end_users(upstream, pseudonym_key),
        probe=None if upstream.probe is None else _probe(upstream, upstream.probe, tls, sealed),
    )


def _probe(
    upstream: configured.Upstream, wanted: UpstreamProbe, tls: ssl.SSLContext | None, sealed: Mapping[str, str]
) -> Probe:
    endpoint = upstream.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    path = f"{endpoint.path}{MODELS_OPENAI.upstream_path.decode()}" if wanted.path is None else wanted.path
    lines = _fixed_headers(upstream, sealed).decode().splitlines()
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines) if name != "Host"]
    if upstream.dialect is Dialect.ANTHROPIC:
        headers.append(("anthropic-version", _ANTHROPIC_VERSION))
    return Probe(
        url=f"{'https' if endpoint.tls else 'http'}://{host}:{endpoint.port}{path}",
        headers=tuple(headers),
        tls=tls,
        proxy=None if upstream.proxy is None else upstream.proxy.reveal(),
        every_s=wanted.every_s,
        timeout_s=wanted.timeout_s,
        fails=wanted.fails,
        passes=wanted.passes,
    )


def _end_users(upstream: configured.Upstream, key: bytes) -> EndUserIds | None:
    if upstream.end_users is EndUsers.PASS:
        return None
    return EndUserIds(upstream.name, key if upstream.end_users is EndUsers.PSEUDONYMISE else None)


def _reached_by(upstream: configured.Upstream) -> tuple[object, ...]:
    """Everything that connections are made from; where it is comes first."""
    endpoint = upstream.endpoint
    return (
        (endpoint.host, endpoint.port, endpoint.tls),
        *(upstream.proxy, upstream.ca_file, upstream.client_certificate_file, upstream.client_key_file),
        *(upstream.timeouts, upstream.max_connections),
    )


def _has_files(upstream: configured.Upstream) -> bool:
    """Whether a reload may have to read another certificate under the same name."""
    return upstream.endpoint.tls and (upstream.ca_file is not None or upstream.client_certificate_file is not None)


def _health_rules(upstream: configured.Upstream) -> HealthRules:
    wanted = upstream.health
    return HealthRules(
        failures=wanted.failures,
        open_s=wanted.open_s,
        error_percent=wanted.error_percent,
        error_requests=wanted.error_requests,
        window_s=wanted.window_s,
        pause_cap_s=wanted.retry_after_cap_s,
    )


def _origin(
    upstream: configured.Upstream, tls: ssl.SSLContext | None, ticker: Ticker, loop: asyncio.AbstractEventLoop
) -> Origin:
    times = upstream.timeouts
    dialer = Dialer(
        host=upstream.endpoint.host,
        port=upstream.endpoint.port,
        tls=tls,
        loop=loop,
        proxy=Proxy(*parse_proxy_url(upstream.proxy.reveal())) if upstream.proxy is not None else None,
        connect_s=times.connect_s,
        dns_ttl_s=times.dns_ttl_s,
    )
    return Origin(
        dialer,
        ticker,
        first_byte_s=times.first_byte_s,
        idle_s=times.idle_s,
        keep_alive_s=times.keep_alive_s,
        max_age_s=times.max_connection_age_s,
        max_open=upstream.max_connections,
    )


def _tls_context(upstream: configured.Upstream) -> ssl.SSLContext:
    """Certificates are verified, always; `ca_file` replaces the system's authorities, our own is shown if asked for."""
    try:
        context = ssl.create_default_context(cafile=upstream.ca_file)
    except (OSError, ssl.SSLError):
        raise UnusableUpstreamError(
            f"The ca_file of upstream {upstream.name} ({upstream.ca_file}) cannot be read as PEM certificates."
        ) from None
    if upstream.client_certificate_file is not None:
        try:
            configured.load_client_certificate(context, upstream.client_certificate_file, upstream.client_key_file)
        except (OSError, ssl.SSLError, ValueError):
            raise UnusableUpstreamError(
                f"The client certificate of upstream {upstream.name} ({upstream.client_certificate_file}) and its key "
                "cannot be read as PEM, or do not belong together."
            ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _api_key(upstream: str, secret: Secret, sealed: Mapping[str, str]) -> str:
    name = secret.sealed_name
    if not name:
        return secret.reveal()
    if name not in sealed:
        raise UnusableUpstreamError(
            f"Upstream {upstream} needs the secret {name}, which is not set; run `luntrex-proxy secrets set {name}`."
        )
    wrong = configured.wrong_api_key(sealed[name])
    if wrong:
        raise UnusableUpstreamError(f"The secret {name} of upstream {upstream} {wrong}; set it again.")
    return sealed[name]


def _fixed_headers(upstream: configured.Upstream, sealed: Mapping[str, str]) -> bytes:
    endpoint = upstream.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    if endpoint.port != (443 if endpoint.tls else 80):
        host = f"{host}:{endpoint.port}"
    lines = [f"Host: {host}", f"User-Agent: luntrex-proxy/{__version__}"]
    if upstream.api_key is not None:
        key = _api_key(upstream.name, upstream.api_key, sealed)
        lines.append(f"x-api-key: {key}" if upstream.dialect is Dialect.ANTHROPIC else f"Authorization: Bearer {key}")
    lines += ["Accept: application/json, text/event-stream", "Accept-Encoding: identity"]
    return "".join(line + "\r\n" for line in lines).encode()
