"""Labels in their tables: declared, carried from a day on, copied and moved with keys; usage counts for that day's."""

import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luntrex_proxy.store import accounts, apikeys, audit, budgets, erasing, labels, usage
from luntrex_proxy.store import keytransfer as transfer
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.usagegroups import grouped
from tests.postgres import LOOKUP
from tests.store.keys import make, set_peppers
from tests.store.records import outcome, ship

DAY_US = 86_400_000_000


async def carried(pool: Pool, key_id: str) -> dict[str, str]:
    """What a key carries now."""
    found = await apikeys.find(pool, 1, key_id)
    assert found is not None
    return found.labels


async def test_labels_are_declared_carried_and_taken_back(acme: Pool) -> None:
    """A key begins with some, gets others; only declared ones; five names; none goes while a key carries it."""
    await labels.declare(acme, "acme", "project", ["search", "chat"])
    await labels.declare(acme, "acme", "team", None)
    key = await make(acme, terms=Terms(labels={"project": "search", "team": "blue"}))
    assert key.info.labels == {"project": "search", "team": "blue"}
    changed = await labels.of_key(acme, key.info.key_id, {"project": "chat", "team": None})
    assert (changed.labels, changed.version > key.info.version) == ({"project": "chat"}, True)
    for wanted, sentence in (
        ({"project": "shop"}, "shop is no value of the label project"),
        ({"stage": "prod"}, "declares no label stage"),
        ({"team": "a b"}, "A value of the label team is"),
        ({"Team": None}, "A label's name is"),
    ):
        with pytest.raises(RefusedError, match=sentence):
            await labels.of_key(acme, key.info.key_id, {"project": "search", **wanted})
    with pytest.raises(RefusedError, match="begins today or on a day that has passed"):
        await labels.of_key(acme, key.info.key_id, {"team": "x"}, since=date(2199, 1, 1))
    with pytest.raises(RefusedError, match="declares no label stage"):
        await make(acme, "other", terms=Terms(labels={"stage": "prod"}))
    assert [each.name for each in await apikeys.list_all(acme)] == ["main"], "nothing is half applied"
    assert await carried(acme, key.info.key_id) == {"project": "chat"}
    with pytest.raises(RefusedError, match="1 keys carry another value"):
        await labels.declare(acme, "acme", "project", ["search"])
    with pytest.raises(RefusedError, match="1 keys carry the label project"):
        await labels.remove(acme, "acme", "project")
    for name in ("a", "b", "c"):
        await labels.declare(acme, "acme", name, None)
    with pytest.raises(RefusedError, match="5 labels at most"):
        await labels.declare(acme, "acme", "d", None)
    await labels.remove(acme, "acme", "team")
    with pytest.raises(RefusedError, match="declares no label of this name"):
        await labels.remove(acme, "acme", "team")
    found = await labels.list_declared(acme, 1)
    assert [(each.name, each.allowed, each.keys) for each in found if each.keys] == [
        ("project", frozenset({"search", "chat"}), 1)
    ]
    await apikeys.revoke(acme, key.info.key_id)
    with pytest.raises(RefusedError, match="has ended"):
        await labels.of_key(acme, key.info.key_id, {"project": "search"})
    await labels.remove(acme, "acme", "project")
    entries = [each for each in await audit.newest(acme, 100) if each.act == "key.labelled"]
    assert [(set(each.facts["labels"]), each.personal) for each in entries] == [
        ({"project", "team"}, {"label.project": "chat"}),
        ({"project", "team"}, {"label.project": "search", "label.team": "blue"}),
    ], "values stand apart, so that they can be erased"


async def test_they_go_along(acme: Pool) -> None:
    """To a successor from its first day on, and in a file to where the account declares them."""
    await labels.declare(acme, "acme", "project", ["search"])
    key = await make(acme, terms=Terms(labels={"project": "search"}))
    new = await apikeys.rotate(acme, LOOKUP, key.info.key_id, overlap_s=60, bcrypt_cost=4)
    assert new.info.labels == {"project": "search"}
    lines = [line.encode() for line in (await transfer.export_lines(acme)).lines]
    await acme.execute("DELETE FROM api_key")
    await set_peppers(acme, LOOKUP)
    await labels.remove(acme, "acme", "project")
    with pytest.raises(RefusedError, match=r"Line 1: the account acme declares no such label or value.*Nothing was"):
        await transfer.import_lines(acme, lines)
    await labels.declare(acme, "acme", "project", None)
    await transfer.import_lines(acme, lines)
    assert await carried(acme, new.info.key_id) == {"project": "search"}
    bad = lines[0].replace(b'"search"', b'"a b"')
    with pytest.raises(RefusedError, match="this is no line"):
        await transfer.import_lines(acme, [bad])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["a", "b", None])), max_size=8))
async def test_a_change_leaves_the_days_before_as_they_were(acme: Pool, changes: list[tuple[int, str | None]]) -> None:
    """Whatever is changed from which day on, each day has one value: that of a list of days that was written over."""
    await labels.declare(acme, "acme", "project", None)
    key_id = (await apikeys.current(acme, "acme") or (await make(acme)).info).key_id
    await acme.execute("DELETE FROM key_label")
    today: date = await acme.fetchval(f"SELECT {labels.TODAY}")
    first = today - timedelta(days=20)
    model: list[str | None] = [None] * 21
    for start, value in changes:
        await labels.of_key(acme, key_id, {"project": value}, since=first + timedelta(days=start))
        model[start:] = [value] * (21 - start)
    for number, value in enumerate(model):
        found = await acme.fetch(
            "SELECT value FROM key_label WHERE since <= $1 AND (until IS NULL OR until > $1)",
            first + timedelta(days=number),
        )
        assert [row["value"] for row in found] == ([] if value is None else [value])


async def test_usage_counts_for_the_label_of_its_day(acme: Pool, tmp_path: Path) -> None:
    """A change today leaves yesterday's sums; an explicit day changes them; sums over all labels are all there is."""
    await labels.declare(acme, "acme", "project", None)
    key_id = (await make(acme)).info.key_id
    now: datetime = await acme.fetchval("SELECT now()")
    noon = int(datetime(now.year, now.month, now.day, tzinfo=UTC).timestamp() * 1e6)
    spool = Spool(tmp_path, uuid.uuid4())
    for number in range(6):
        spool.settle(
            outcome(number, key_id=key_id, started_us=noon - DAY_US * (number % 3) + number, cost_pico=10**number)
        )
    spool.settle(outcome(9, key_id="abcdefghijkm", started_us=noon, cost_pico=7))
    await ship(acme, tmp_path, spool)
    since, until = now - timedelta(days=5), now + timedelta(hours=1)
    today = date(now.year, now.month, now.day)

    async def by_project() -> dict[str | None, int]:
        found = await grouped(acme, since, until, ["label:project"])
        assert sum(each.sums["requests"] for each in found) == 7
        return {each.place[0]: each.cost_pico for each in found}

    assert await by_project() == {None: 111_118}
    await labels.of_key(acme, key_id, {"project": "old"}, since=today - timedelta(days=2))
    await labels.of_key(acme, key_id, {"project": "new"})
    assert await by_project() == {"old": 110_110, "new": 1_001, None: 7}
    single = await usage.requests(acme, since, until, 10)
    assert {(each.cost_pico, each.labels.get("project")) for each in single} >= {(1, "new"), (10, "old"), (7, None)}
    found = await grouped(acme, since, until, ["account", "day", "label:project"], "acme")
    assert found[-2:] == [each for each in found if each.place[1] == today.isoformat()]
    for by, sentence in ((["project"], "grouped by account, key"), (["label:stage"], "No account declares a label")):
        with pytest.raises(RefusedError, match=sentence):
            await grouped(acme, since, until, by)
    # Erased, the key leads nowhere any more: totals stay, and count for no label.
    await accounts.create(acme, "other")
    await labels.declare(acme, "other", "project", None)
    await erasing.erase_account(acme, tmp_path, 1, now, 2192)
    assert await by_project() == {None: 111_118}
    assert await acme.fetchval("SELECT (SELECT count(*) FROM label_name) + (SELECT count(*) FROM key_label)") == 1


async def test_a_label_with_a_budget_stays(acme: Pool) -> None:
    """Else the budget would hold nobody, unsaid; once it is cleared the label can go."""
    await labels.declare(acme, "acme", "project", ["search", "chat"])
    search = budgets.Whose(1, label=("project", "search"))
    await budgets.change(acme, search, {"month": 10**12}, budgets.Terms())
    for act in (labels.declare(acme, "acme", "project", ["chat"]), labels.remove(acme, "acme", "project")):
        with pytest.raises(RefusedError, match="1 budgets are of the label project"):
            await act
    await labels.declare(acme, "acme", "project", ["search"])
    await budgets.change(acme, search, {}, budgets.Terms(), cleared=["month"])
    await labels.remove(acme, "acme", "project")
