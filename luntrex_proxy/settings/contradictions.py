"""Rules that span several keys. They read the raw data, so they report next to type errors, not after them.

Each rule yields (place, sentence) and skips what has the wrong shape: the model complains about that.
"""

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from luntrex_proxy.core.catalogue import WILDCARD
from luntrex_proxy.core.listening import HostPort, ListenError, Place, is_loopback_host, parse_listen
from luntrex_proxy.settings.model import GatewayLimits, Ledger
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.settings.sealing import region_of
from luntrex_proxy.settings.section import Loc, Section

Found = Iterator[tuple[Loc, str]]


def contradictions(data: Mapping[str, object]) -> Found:
    """Everything in `data` that does not fit together."""
    yield from _open_listeners(data)
    yield from _shared_listeners(data)
    yield from _unnamed_proxies(data)
    yield from _repeated_names(data, "upstreams")
    yield from _repeated_names(data, "models")
    yield from _lost_targets(data)
    yield from _unused_certificates(data)
    yield from _unreachable_probes(data)
    yield from _bounds(data)
    yield from _open_console(data)
    yield from _unsendable_mail(data)
    yield from _lost_kms(data)
    yield from _unsigned_webhook(data)


def suggest(word: str, known: list[str]) -> str:
    """` (did you mean 'x'?)`, or nothing."""
    close = difflib.get_close_matches(word, known, 1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _listeners(data: Mapping[str, object]) -> Iterator[tuple[Loc, Place]]:
    for plane in ("gateway", "control"):
        for index, text in enumerate(_list(_mapping(data.get(plane)).get("listen"))):
            with contextlib.suppress(ListenError):
                if isinstance(text, str):
                    yield (plane, "listen", index), parse_listen(text)


def _open_listeners(data: Mapping[str, object]) -> Found:
    for loc, listener in _listeners(data):
        if _mapping(data.get(str(loc[0]))).get("tls") is None and not listener.is_loopback:
            yield (
                loc,
                (
                    f"other machines could reach this over plain HTTP: listen on 127.0.0.1, set {loc[0]}.tls to a "
                    f"cert_file and key_file, or put a TLS proxy in front and set {loc[0]}.tls to terminated_by_proxy"
                ),
            )


def _shared_listeners(data: Mapping[str, object]) -> Found:
    seen: set[object] = set()
    for loc, listener in _listeners(data):
        if isinstance(listener, HostPort) and listener.port == 0:
            continue  # the kernel chooses another port each time
        if listener in seen:
            yield loc, "is already listened on"
        seen.add(listener)


def _unnamed_proxies(data: Mapping[str, object]) -> Found:
    gateway = _mapping(data.get("gateway"))
    source = gateway.get("client_address", "peer")
    if source in ("x_forwarded_for", "proxy_protocol") and not gateway.get("trusted_proxies"):
        yield ("gateway", "client_address"), "needs gateway.trusted_proxies: only a proxy named there is believed"


def _repeated_names(data: Mapping[str, object], section: str) -> Found:
    seen: set[str] = set()
    for index, item in enumerate(_list(data.get(section))):
        name = _mapping(item).get("name")
        if isinstance(name, str):
            if name in seen:
                yield (section, index, "name"), f"is already used by another of the {section}"
            seen.add(name)


def _lost_targets(data: Mapping[str, object]) -> Found:
    known = [_mapping(item).get("name") for item in _list(data.get("upstreams"))]
    names = [name for name in known if isinstance(name, str)]
    for index, model in enumerate(_list(data.get("models"))):
        own_name = _mapping(model).get("name")
        for number, target in enumerate(_list(_mapping(model).get("targets"))):
            loc: Loc = ("models", index, "targets", number)
            upstream, there = _mapping(target).get("upstream"), _mapping(target).get("model")
            if isinstance(upstream, str) and upstream not in names:
                yield (*loc, "upstream"), f"is not the name of an upstream{suggest(upstream, names)}"
            if isinstance(there, str) and isinstance(own_name, str) and WILDCARD in there and WILDCARD not in own_name:
                yield (*loc, "model"), "has a *, but the model's own name has none that it could stand for"


def _unused_certificates(data: Mapping[str, object]) -> Found:
    for index, item in enumerate(_list(data.get("upstreams"))):
        upstream = _mapping(item)
        loc: Loc = ("upstreams", index)
        if upstream.get("client_certificate_file") is not None:
            if str(upstream.get("base_url")).startswith("http:"):
                yield (*loc, "client_certificate_file"), "needs an https:// base_url: without TLS nobody is shown it"
        elif upstream.get("client_key_file") is not None:
            yield (*loc, "client_key_file"), "needs client_certificate_file as well"


def _unreachable_probes(data: Mapping[str, object]) -> Found:
    for index, item in enumerate(_list(data.get("upstreams"))):
        upstream = _mapping(item)
        plain = str(upstream.get("base_url")).startswith("http:")
        if upstream.get("probe") is not None and upstream.get("proxy") is not None and plain:
            yield ("upstreams", index, "probe"), "goes through a proxy to an https:// base_url only"


def _bounds(data: Mapping[str, object]) -> Found:
    limits = _mapping(_mapping(data.get("gateway")).get("limits"))
    one, held = _number(limits, GatewayLimits, "body_bytes"), _number(limits, GatewayLimits, "bodies_held_bytes")
    if one is not None and held is not None and one > held:
        yield ("gateway", "limits", "bodies_held_bytes"), "must not be smaller than body_bytes"
    ledger = _mapping(data.get("ledger"))
    segment, whole = _number(ledger, Ledger, "segment_bytes"), _number(ledger, Ledger, "max_bytes")
    if segment is not None and whole is not None and segment * 2 > whole:
        yield ("ledger", "max_bytes"), "must hold at least two segments (2 x segment_bytes)"
    periods = _mapping(data.get("retention"))
    usage, totals = _number(periods, RetentionPeriods, "usage_days"), _number(periods, RetentionPeriods, "totals_days")
    if usage is not None and totals is not None and usage > totals:
        yield ("retention", "totals_days"), "must not be shorter than usage_days"
    database = _mapping(data.get("database"))
    if database.get("direct_url") is not None and database.get("url") is None:
        yield ("database", "direct_url"), "needs database.url as well"


def _open_console(data: Mapping[str, object]) -> Found:
    url = _mapping(data.get("console")).get("public_url")
    if not isinstance(url, str) or not url.startswith("http:"):
        return
    if not is_loopback_host(urlsplit(url).hostname or ""):
        yield ("console", "public_url"), "must be https: passwords and links go there"


def _unsendable_mail(data: Mapping[str, object]) -> Found:
    console, mail = _mapping(data.get("console")), _mapping(data.get("mail"))
    host = mail.get("host")
    if host is None:
        if console.get("sign_up") == "open":
            yield ("console", "sign_up"), "open needs mail.host: an address is proven by a letter to it"
        return
    if mail.get("sender") is None:
        yield ("mail", "host"), "needs mail.sender as well"
    if console.get("public_url") is None:
        yield ("mail", "host"), "needs console.public_url as well, for the links in letters"
    if mail.get("security") == "none" and not is_loopback_host(str(host)):
        yield ("mail", "security"), "must be starttls or tls: the way to this host is not this machine's own"
    if (mail.get("user") is None) != (mail.get("password") is None):
        yield ("mail", "user"), "needs mail.password as well, as that needs mail.user"


def _lost_kms(data: Mapping[str, object]) -> Found:
    kms = _mapping(_mapping(data.get("sealing")).get("kms"))
    key_id, region = kms.get("key_id"), kms.get("region")
    if key_id is None:
        for given in ("region", "endpoint", "ca_file"):
            if kms.get(given) is not None:
                yield ("sealing", "kms", given), "needs sealing.kms.key_id as well"
    elif isinstance(key_id, str) and region is None and not region_of(key_id):
        yield ("sealing", "kms", "key_id"), "needs sealing.kms.region as well, as it is no ARN"
    elif isinstance(key_id, str) and isinstance(region, str) and region_of(key_id) not in ("", region):
        yield ("sealing", "kms", "region"), "is not the one in the ARN of sealing.kms.key_id"


def _unsigned_webhook(data: Mapping[str, object]) -> Found:
    webhook = _mapping(_mapping(data.get("alerts")).get("webhook"))
    if _list(_mapping(data.get("alerts")).get("mail_to")) and _mapping(data.get("mail")).get("host") is None:
        yield ("alerts", "mail_to"), "needs mail.host as well"
    if webhook.get("url") is not None and webhook.get("secret") is None:
        yield ("alerts", "webhook", "url"), "needs alerts.webhook.secret as well: messages are signed"


def _number(values: Mapping[str, object], section: type[Section], key: str) -> int | None:
    value = values.get(key, section.model_fields[key].default)
    return value if isinstance(value, int) else None


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
