"""The configuration's remote places against the register: which upstreams get nothing, who is told what."""

import datetime
from dataclasses import replace
from typing import Any

import pytest

from luntrex_proxy.core.registry import Register, State
from luntrex_proxy.settings import registry
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.registry import SHIPPED, closed, due_soon, judge, refuse_unvetted, warnings
from tests.core.test_registry import ENTRY, NOW


def settings(*upstreams: dict[str, Any], **more: Any) -> Settings:
    return Settings.model_validate({"upstreams": list(upstreams), **more})


def upstream(name: str, url: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "dialect": "openai", "base_url": url} | more


KEEPS = {"region": "eu", "retention": {"kind": "abuse_monitoring", "days": 30}, "training": "never"}
ACME = upstream("acme", "https://api.acme.example", **KEEPS)
OPENAI = upstream("openai", "https://api.openai.com/v1")
HERE = [upstream("here", "http://127.0.0.1:9/v1"), upstream("local", "http://localhost:9/v1")]


def test_this_machine_needs_no_entry() -> None:
    """Loopback upstreams, the embedded database and Unix sockets are nobody else's."""
    assert judge(settings(*HERE, database={"url": "postgresql:///x?host=/run/pg"}), Register(), NOW) == []


def test_a_plain_start_works() -> None:
    """A known provider needs no word; one that nobody knows is used, and named. Strict: neither is."""
    configured = settings(OPENAI, ACME, *HERE)
    register = Register((), SHIPPED)
    judged = judge(configured, register, NOW)
    assert [(one.listing.state, one.usable) for one in judged] == [(State.SHIPPED, True), (State.UNLISTED, True)]
    (sentence,) = warnings(judged)
    assert "upstream acme (api.acme.example): nobody has entered it. It is used all the same" in sentence
    assert closed(configured, register, {}, NOW).everyone == frozenset()


def test_strict_uses_the_complete_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstreams are closed; without the database or mail nothing starts, and the sentence names them."""
    monkeypatch.setattr(registry, "is_strict", lambda _: True)
    configured = settings(OPENAI, ACME, mail={"host": "smtp.acme.example", "sender": "a@b.example"})
    register = Register((ENTRY,), SHIPPED)
    assert closed(configured, register, {}, NOW).everyone == {"openai"}
    with pytest.raises(
        ConfigError, match=r"mail to people \(smtp.acme.example\): nobody has entered it. It gets nothing"
    ):
        refuse_unvetted(judge(configured, register, NOW))
    both = Register((replace(ENTRY, hosts=("api.acme.example", "smtp.acme.example")),), SHIPPED)
    refuse_unvetted(judge(configured, both, NOW))


def test_overdue_and_contradicted_entries_close_their_upstream() -> None:
    """In any mode, because somebody has said that more is known than is."""
    overdue = replace(ENTRY, next_review=NOW.date())
    for entry, traits in ((overdue, KEEPS), (ENTRY, KEEPS | {"training": "yes"})):
        configured = settings(ACME | traits, OPENAI)
        register = Register((entry,), SHIPPED)
        assert closed(configured, register, {}, NOW).everyone == {"acme"}
        assert len(warnings(judge(configured, register, NOW))) == 1
    soon = replace(ENTRY, next_review=(NOW + datetime.timedelta(10)).date())
    assert "The review of sub-processor acme is due" in due_soon(settings(ACME), Register((soon,)), NOW)[0]
    assert due_soon(settings(OPENAI), Register((soon,)), NOW) == [], "of those in use"


def test_the_proxy_on_the_way_counts_too() -> None:
    """Who stands between sees something: its entry closes the upstream behind it as well."""
    proxied = ACME | {"proxy": "http://proxy.acme.example:3128"}
    theirs = replace(ENTRY, name="carrier", hosts=("proxy.acme.example",), region="")
    register = Register((ENTRY, theirs), SHIPPED)
    assert closed(settings(proxied), register, {}, NOW).everyone == {"acme"}
    objections = {7: frozenset({"carrier"}), 8: frozenset({"acme", "gone"}), 9: frozenset({"openai"})}
    found = closed(settings(proxied, OPENAI, *HERE), Register((ENTRY, replace(theirs, region="eu"))), objections, NOW)
    assert found.objections == {7: {"acme"}, 8: {"acme"}}, "openai is no entry here"


def test_an_objection_to_any_entry_of_a_host_holds() -> None:
    """Whichever of several entries for it counts, as when another takes a host over."""
    taken_over = Register((ENTRY, replace(ENTRY, name="zacme")))
    for name in ("acme", "zacme"):
        assert closed(settings(ACME), taken_over, {7: frozenset({name})}, NOW).objections == {7: {"acme"}}
