"""Requests by right and the register of sub-processors, on the pages of who runs the installation."""

import datetime
import re
import time

import pytest

from luntrex_proxy.control import registry, rights
from luntrex_proxy.control.rights import Law
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Pool
from tests.console.test_installation_pages import operator
from tests.console.test_pages import ADA, Open, ada_in, opened

__all__ = ["opened"]
NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
TODAY = NOW.date()
DAY = datetime.timedelta(days=1)
UPSTREAM = {"name": "remote", "dialect": "openai", "base_url": "https://models.example.net"}


async def test_requests_by_right(opened: Open, database: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listed with their clocks; given more time once, with the reason on record; answered; refused; found again."""
    browser, ada = await ada_in(opened)
    runs = await operator(browser)
    made = await rights.ask_erasure(database, ada, NOW, datetime.timedelta(days=7))
    await rights.correct_name(database, ada, "Ada")
    seen = await runs.get("/rights-requests")
    assert f"1 in time The next answer is due {made.clock.due:%Y-%m-%d}" in seen.said
    assert f"Erasure , {made.reference} GDPR (a month) {made.reference} {ADA}" in seen.said
    assert "due in" in seen.said
    assert "corrected" not in seen.said
    assert "done: corrected" in (await runs.get("/rights-requests?state=done")).said
    assert "There is no such request." in (await runs.get("/rights-requests?state=done&right=erase")).said
    monkeypatch.setattr("luntrex_proxy.console.pages.rightsdesk._SHOWN", 1)
    seen = await runs.get("/rights-requests?state=all")
    assert "corrected" not in seen.said
    place = seen.text.partition("after=")[2].partition('"')[0]
    assert "corrected" in (await runs.get(f"/rights-requests?state=all&after={place}")).said
    path = f"/rights-requests/{made.reference}"
    assert f"Whose {ADA}" in (await runs.get(path)).said
    assert "Choose one of them." in (await runs.send(f"{path}/extend", delay="holidays")).said
    seen = await runs.send(f"{path}/extend", delay="complex")
    assert "tell the person why" in seen.said
    assert "extended" in seen.said
    (entry,) = await audit.newest(database, 9, act="right.extended")
    assert entry.facts == {"reason": "complex"}
    assert "no longer time to take" in (await runs.send(f"{path}/extend", delay="complex")).said
    assert 'id="refusal-wrong"' in (await runs.send(f"{path}/refuse", refusal="")).text
    seen = await runs.send(f"{path}/refuse", refusal="kept_by_law")
    assert "refused: a law says that it has to be kept" in seen.said
    assert "ended already" in (await runs.send(f"{path}/answer", answer="answered")).said
    other = await rights.ask_erasure(database, ada, NOW, datetime.timedelta(days=7), law=Law.LGPD)
    seen = await runs.get(f"/rights-requests/{other.reference}")
    assert "Take more time" not in seen.said
    assert (
        "done: answered by letter"
        in (await runs.send(f"/rights-requests/{other.reference}/answer", answer="answered")).said
    )
    assert (await runs.get("/rights-requests/AAAA")).status == 404


async def test_an_entry_of_the_register(opened: Open, database: Pool) -> None:
    """Entered for a place of the configuration, changed with notice, retired; mistakes change nothing."""
    browser, _ = await ada_in(opened, upstreams=[UPSTREAM])
    runs = await operator(browser)
    seen = await runs.get("/registry")
    assert "models.example.net" in seen.said
    (path,) = re.findall(r'href="(/registry/new[?]host=[^"]+)"', seen.text)
    entry = {
        "hosts": "models.example.net\r\n.eu.example.net", "purpose": "models", "region": "eu", "kept": "none",
        "training": "never", "agreement": "DPA 7", "agreed_on": (TODAY - DAY).isoformat(), "commitments": "secrecy",
        "evidence": "https://example.net/dpa", "next_review": (TODAY + 90 * DAY).isoformat(),
    }  # fmt: skip
    seen = await runs.get(path)
    assert ">\nmodels.example.net</textarea>" in seen.text
    for field, value, said in (
        ("name", "Ä", "A name has small letters"), ("hosts", "", "This is needed."),
        ("hosts", "https://x", "is a host name"), ("kept", "a while", "is none, or a kind and days"),
        ("training", "sometimes", "Choose one"), ("agreed_on", "2199-01-01", "cannot lie ahead"),
        ("next_review", "2020-01-01", "is a day ahead"), ("next_review", "soon", "such as 2030-01-31"),
        ("purpose", "x" * 501, "at most 500"),
    ):  # fmt: skip
        seen = await runs.send("/registry/new", **{"name": "Remote"} | entry | {field: value})
        assert (seen.status, said in seen.said) == (422, True), (field, seen.said)
        assert f'id="{field}-wrong"' in seen.text
        assert 'value="DPA 7"' in seen.text
    assert await registry.names(database) == set()
    seen = await runs.send("/registry/new", name="remote", **entry, in_use="yes")
    assert "The entry is in the register." in seen.said
    assert "remote complete" in seen.said
    await runs.get("/registry/new")
    assert "an entry 'remote' already" in (await runs.send("/registry/new", name="remote", **entry)).said
    path = "/registry/entries/remote"
    assert 'value="DPA 7"' in (await runs.get(f"{path}/change")).text
    assert "says all of it already" in (await runs.send(f"{path}/change", **entry)).said
    seen = await runs.send(f"{path}/change", **entry | {"region": "us", "purpose": ""})
    assert "Version 2, from" in seen.said
    assert "it holds in 2" in seen.said
    assert "purpose, region" in seen.said
    assert [each.region for each in await registry.versions(database, "remote")] == ["eu", "us"]
    await runs.get(f"{path}/retire")
    assert "Say that nothing shall be sent" in (await runs.send(f"{path}/retire")).said
    assert "The entry stays in the register." in (await runs.send(f"{path}/retire", sure="yes")).said
    assert (await registry.versions(database, "remote"))[-1].retired
    await runs.get(f"{path}/change")
    await runs.send(f"{path}/change", **entry, in_use="yes")
    assert not (await registry.versions(database, "remote"))[-1].retired
    assert (
        (await runs.get("/registry/entries/never")).status == (await runs.get("/registry/entries/%3Cb")).status == 404
    )
