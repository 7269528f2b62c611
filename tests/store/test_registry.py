"""The register in its tables: versions that stay, thirty days' notice, objections, and a daemon's copy of it all."""

import datetime
import time

import pytest

from luntrex_proxy.core.registry import State
from luntrex_proxy.settings.registry import SHIPPED
from luntrex_proxy.store import audit, registry
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.registry import RegisterBook

NOW = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
FIELDS = {
    "hosts": ("api.acme.example",),
    "purpose": "inference",
    "region": "eu",
    "kept": "none",
    "training": "never",
    "agreement": "DPA 7",
    "agreed_on": datetime.date(2026, 1, 1),
    "commitments": "confidentiality",
    "evidence": "https://acme.example/dpa",
    "next_review": NOW.date() + datetime.timedelta(300),
}
NOTICE = datetime.timedelta(days=30)


async def test_every_version_stays(database: Pool) -> None:
    """Without accounts there is nobody to tell: all holds at once. What is not said anew stays as it was."""
    first = await registry.change(database, "acme", FIELDS)
    second = await registry.change(database, "acme", {"training": "yes"})
    assert (first.entry_version, second.entry_version) == (1, 2)
    assert (first.training, second.training, second.agreement) == ("never", "yes", "DPA 7")
    assert second.effective_at == second.announced_at
    assert await registry.entries(database, "acme") == [first, second]
    with pytest.raises(RefusedError, match="says so already"):
        await registry.change(database, "acme", {"training": "yes"})
    (entry,) = await audit.newest(database, 1)
    assert (entry.act, entry.object_id, entry.facts["changed"]) == ("subprocessor.set", "acme", ["training"])


async def test_accounts_have_thirty_days(acme: Pool) -> None:
    """Wider changes wait, narrower ones do not, and what was announced once need not wait again."""
    first = await registry.change(acme, "acme", FIELDS)
    assert first.effective_at - first.announced_at == NOTICE
    same = await registry.change(acme, "acme", {"agreement": "DPA 8"})
    assert same.effective_at == first.effective_at, "accounts know of it since the first version"
    used = await registry.change(acme, "used", FIELDS | {"hosts": ("api.used.example",)}, in_use=True)
    assert used.effective_at == used.announced_at
    wider = await registry.change(acme, "used", {"training": "yes"})
    narrower = await registry.change(acme, "used", {"training": "never"})
    assert wider.effective_at - wider.announced_at == NOTICE
    assert narrower.effective_at == narrower.announced_at
    retired = await registry.change(acme, "used", {"retired": True})
    assert retired.effective_at == retired.announced_at


async def test_what_cannot_be_an_entry(database: Pool) -> None:
    """Is refused in a sentence, and nothing is kept of it."""
    for name, changes, why in (
        ("No Name", FIELDS, "A sub-processor's name is"),
        ("acme", {"purpose": "x"}, "needs the host names"),
        ("acme", FIELDS | {"purpose": "x" * 501}, "at most 500 characters"),
        ("acme", FIELDS | {"purpose": "\0"}, "is"),
        ("acme", {"retired": True}, "There is no entry"),
    ):
        with pytest.raises(RefusedError, match=why):
            await registry.change(database, name, changes)
    assert await registry.entries(database) == []


async def test_an_objection_is_an_accounts_own(acme: Pool) -> None:
    """A daemon's copy has it after the next look; taken back, it is gone."""
    book = RegisterBook(acme, SHIPPED)
    await registry.object_to(acme, "acme", "openai")
    await registry.object_to(acme, "acme", "openai")
    await book.refresh()
    assert book.objections == {1: frozenset({"openai"})}
    await registry.withdraw_objection(acme, "acme", "openai")
    await book.refresh()
    assert book.objections == {}
    with pytest.raises(RefusedError, match="has not objected"):
        await registry.withdraw_objection(acme, "acme", "openai")
    with pytest.raises(RefusedError, match="There is no account"):
        await registry.object_to(acme, "nobody", "openai")
    assert [e.act for e in await audit.newest(acme, 2)] == ["subprocessor.objection_withdrawn", "subprocessor.objected"]


async def test_every_change_wakes_who_follows(acme: Pool) -> None:
    """The change version moves, which is what running daemons look at."""
    seen = []
    for act in (
        lambda: registry.change(acme, "acme", FIELDS),
        lambda: registry.object_to(acme, "acme", "acme"),
        lambda: registry.withdraw_objection(acme, "acme", "acme"),
    ):
        await act()
        seen.append(await acme.fetchval("SELECT version FROM change_version"))
    assert seen == sorted(set(seen))
    book = RegisterBook(acme, ())
    await book.refresh()
    assert book.register.look_up("api.acme.example", NOW).state is State.PENDING
