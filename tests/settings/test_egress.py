"""Every place the program can connect to is listed, with what leaves; no secret is in the list."""

from typing import Any

import pytest

from luntrex_proxy.settings.egress import Destination, destinations
from luntrex_proxy.settings.model import Settings

SECRET = "canary-5c1e"


def of(configuration: dict[str, Any]) -> list[Destination]:
    found = list(destinations(Settings.model_validate(configuration)))
    assert SECRET not in str(found)
    return found


def upstream(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dialect": "openai", "base_url": url, "api_key": SECRET} | more


def test_nothing_configured_is_nowhere() -> None:
    """An embedded database and no upstream: no connection leaves the machine."""
    assert of({}) == []


def test_upstreams_their_proxies_and_names() -> None:
    """Each upstream, the proxy before it (which sees a name, or all without TLS), and the resolver for names."""
    found = of({
        "upstreams": [
            upstream("a", "https://api.example.com/v1"),
            upstream("b", "https://[2001:db8::1]:8443/v1", proxy=f"http://u:{SECRET}@proxy.example:3128"),
            upstream("c", "http://127.0.0.1:9000/v1", proxy="http://127.0.0.1:3128"),
        ]
    })  # fmt: skip
    assert [(one.place, one.tls, one.purpose) for one in found] == [
        ("api.example.com:443", True, "upstream a"),
        ("proxy.example:3128", False, "proxy on the way to upstream b"),
        ("[2001:db8::1]:8443", True, "upstream b"),
        ("127.0.0.1:3128", False, "proxy on the way to upstream c"),
        ("127.0.0.1:9000", False, "upstream c"),
        ("the system's resolver", False, "addresses of host names"),
    ]
    assert "prompts" in found[0].leaves
    assert found[1].leaves == "[2001:db8::1]:8443 as the name of where to connect"
    assert "prompts" in found[3].leaves


def test_probes_are_in_the_list() -> None:
    """What is asked, how often, and that it is nothing of a request."""
    one, probe = of({"upstreams": [upstream("a", "https://10.0.0.1/v1", probe={"path": "/health", "every_s": 60})]})
    assert (probe.place, probe.tls, probe.purpose, probe.upstream) == (one.place, True, "probe of upstream a", "a")
    assert probe.leaves == "a GET of /health about every 60 s, with its key; nothing of a request"


def test_addresses_need_no_resolver() -> None:
    """Without a host name nobody is asked for one."""
    assert len(of({"upstreams": [upstream("a", "http://10.0.0.1:1/v1"), upstream("b", "http://[::1]:1/v1")]})) == 2


@pytest.mark.parametrize(
    ("url", "places", "tls"),
    [
        (f"postgresql://u:{SECRET}@db.example:5433/x?sslmode=verify-full", ["db.example:5433"], True),
        (f"postgresql://u:{SECRET}@h1:1,h2:2/x", ["h1:1", "h2:2"], False),
        ("postgresql:///x?host=/run/postgresql", ["/run/postgresql"], False),
    ],
)
def test_databases(url: str, places: list[str], tls: bool) -> None:
    """All hosts of the address, whether TLS is demanded; metadata leaves, nothing that was said."""
    found = of({"database": {"url": url, "direct_url": url}})
    assert [one.place for one in found] == places * 2
    assert {one.tls for one in found} == {tls}
    assert all("never what was said" in one.leaves for one in found)


def test_mail_is_on_the_list() -> None:
    """The server, whether TLS goes there, and its name in the resolver; nothing without mail."""
    mail = {"host": "smtp.example.com", "user": "u", "password": SECRET, "sender": "proxy@example.com"}
    found = of({"mail": mail, "console": {"public_url": "https://proxy.example.com"}})
    assert [(one.place, one.tls) for one in found] == [
        ("the system's resolver", False),
        ("smtp.example.com:587", True),
    ]
    assert of({"mail": {"host": "::1", "port": 25, "security": "none"}})[0].place == "[::1]:25"


def test_kms_is_on_the_list() -> None:
    """The region's own host, or the endpoint; only keys leave for there."""
    kms = {"key_id": "arn:aws:kms:eu-west-1:123456789012:key/1-2"}
    found = of({"sealing": {"kms": kms}})
    assert [one.place for one in found[:2]] == ["the system's resolver", "kms.eu-west-1.amazonaws.com:443"]
    assert "never a secret" in found[1].leaves
    assert of({"sealing": {"kms": kms | {"endpoint": "https://10.0.0.7:8443"}}})[0].place == "10.0.0.7:8443"
