"""Records priced anew: shown first, then changed with their sums, a whole day or nothing of it."""

import asyncio
import random
from datetime import date
from pathlib import Path

import pytest

from luntrex_proxy.control.repricing import reprice
from luntrex_proxy.core.accountroutes import AccountRoutes, OwnTarget
from luntrex_proxy.core.pricing import Price, Rates
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import accountroutes, audit, erasing, statements
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.repricing import PriceOf, Selection, Tally, days_of, reprice_day
from tests.store.months import MODELS, make_keys, rates_of, records, store
from tests.store.records import assert_sums_match, outcome

WHOLE = Selection(date(2026, 9, 1), date(2026, 9, 30))


def prices(rates: dict[str, Rates], version: str = "v2") -> PriceOf:
    """These, whatever the upstream and the time."""
    return lambda _account, model, _upstream, _version, _at: (
        Price(rates[model], model, version) if model in rates else None
    )


async def run(pool: Pool, price_of: PriceOf, selection: Selection = WHOLE, *, apply: bool = False) -> Tally:
    """All days; what came of them together."""
    whole = Tally()
    for day in await days_of(pool, selection):
        for tally in (await reprice_day(pool, day, selection, price_of, apply=apply)).values():
            whole.add(tally)
    return whole


async def cost(pool: Pool, where: str = "true") -> int:
    """What records cost."""
    return int(await pool.fetchval(f"SELECT coalesce(sum(cost_pico), 0)::text FROM usage WHERE {where}"))


async def test_shown_first_then_changed_with_their_sums(database: Pool, tmp_path: Path) -> None:
    """A preview changes nothing and says what applying does; sums stay those of the records; twice changes nothing."""
    seed = random.Random(1)
    old, new = rates_of(seed), rates_of(seed)
    await store(database, tmp_path, records(seed, await make_keys(database), old, 600, days=5))
    before = await cost(database)
    said = await run(database, prices(new))
    assert (said.requests, said.before_pico, await cost(database)) == (600, before, before)
    assert 0 < said.unknown < 600, "of the model other nothing is known"
    done = await run(database, prices(new), apply=True)
    assert (done, await cost(database)) == (said, said.after_pico)
    assert done.changed == done.requests - done.unknown
    await assert_sums_match(database)
    assert await database.fetchval("SELECT count(*) FROM usage WHERE price_version = 'v2'") == done.changed
    assert await cost(database, "model = 'other'") == 0
    assert (await run(database, prices(new), apply=True)).changed == 0
    entries = [each for each in await audit.newest(database, 50) if each.act == "usage.repriced"]
    assert sum(each.facts["records"] for each in entries) == done.changed
    assert sum(int(each.facts["difference_pico"]) for each in entries) == said.after_pico - before


async def test_only_what_was_selected(database: Pool, tmp_path: Path) -> None:
    """By account, model and days; the rest keeps its price."""
    seed = random.Random(2)
    keys, old = await make_keys(database, ("acme", "bolt")), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, old, 300, days=4))
    chosen = "account_id = 1 AND model = 'large' AND started_at >= '2026-09-02' AND started_at < '2026-09-04'"
    others = await cost(database, f"NOT ({chosen})")
    selection = Selection(date(2026, 9, 2), date(2026, 9, 3), 1, "large")
    done = await run(database, prices(rates_of(seed)), selection, apply=True)
    assert done.changed == await database.fetchval(f"SELECT count(*) FROM usage WHERE {chosen}") > 0
    assert await cost(database, f"NOT ({chosen})") == others
    await assert_sums_match(database)


@pytest.mark.parametrize("fatal", [1, 250, 599])
async def test_a_day_is_changed_or_not(database: Pool, tmp_path: Path, fatal: int) -> None:
    """Killed in the midst: days before are new, this one and those after are old; sums agree; once more ends it."""
    seed = random.Random(3)
    old, new = rates_of(seed), rates_of(seed)
    await store(database, tmp_path, records(seed, await make_keys(database), old, 600, days=5))
    wanted = (await run(database, prices(new))).after_pico
    left = fatal

    def dies(account_id: int, model: str, upstream: str, version: str, at: float) -> Price | None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return prices(new)(account_id, model, upstream, version, at)

    with pytest.raises(KeyboardInterrupt):
        await run(database, dies, apply=True)
    await assert_sums_match(database)
    versions = await database.fetch(
        "SELECT (started_at AT TIME ZONE 'UTC')::date AS day, count(DISTINCT price_version) AS count FROM usage"
        " WHERE model <> 'other' GROUP BY 1"
    )
    assert {row["count"] for row in versions} == {1}
    await run(database, prices(new), apply=True)
    assert await cost(database) == wanted
    await assert_sums_match(database)


async def test_while_records_are_stored(database: Pool, tmp_path: Path) -> None:
    """Neither loses a pico-dollar of the other's, whoever has to wait."""
    seed = random.Random(4)
    keys, old, new = await make_keys(database), rates_of(seed), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, old, 300, days=2))
    more = list(records(seed, keys, old, 900, first=300, days=2))
    storing = [store(database, tmp_path / str(part), iter(more[part * 300 : part * 300 + 300])) for part in range(3)]
    await asyncio.gather(*storing, *(run(database, prices(new), apply=True) for _ in range(3)))
    await assert_sums_match(database)
    await run(database, prices(new), apply=True)
    await assert_sums_match(database)
    assert await database.fetchval("SELECT count(*) FROM usage WHERE price_version = 'v1'") == 0


async def test_a_closed_month_keeps_what_it_charged(database: Pool, tmp_path: Path) -> None:
    """The difference is in the next statement, and can be negative."""
    seed = random.Random(5)
    await store(database, tmp_path, records(seed, await make_keys(database, ("acme",)), rates_of(seed), 100))
    september, _ = await statements.close(database, "acme", WHOLE.since)
    free = {model: Rates(*[0] * 8) for model in MODELS if model != "other"}
    await run(database, prices(free), apply=True)
    assert (await statements.get(database, "acme", WHOLE.since)).cost_pico == september.cost_pico > 0
    october, _ = await statements.close(database, "acme", date(2026, 10, 1))
    assert (october.cost_pico, october.requests) == (-september.cost_pico, 0)


SETTINGS = {
    "upstreams": [{"name": "east", "dialect": "openai", "base_url": "https://api.openai.com/v1"}],
    "models": [
        {"name": "own", "targets": [{"upstream": "east", "model": "gpt-4o"}], "price": {"input": 1, "output": 2}},
        {"name": "alias", "targets": [{"upstream": "east", "model": "gpt-4o-mini"}]},
        {
            "name": "canaried",
            "targets": [{"upstream": "east", "model": "gpt-4o"}, {"upstream": "east", "model": "gpt-4o-mini"}],
        },
        {"name": "openai/*", "targets": [{"upstream": "east", "model": "*"}]},
    ],
    "prices": {"service_tiers": {"priority": 170}},
}
WAS: dict[str, tuple[str, int | None, str]] = {  # model -> version, cost of 1,000 in and 100 out at 1 dollar a million
    "own": ("config-00000000", 1_000 * 1_000_000 + 100 * 2_000_000, "config-"),
    "alias": ("genai-0.0.1", 1_000 * 150_000 + 100 * 600_000, "genai-"),
    "gpt-4o": ("genai-0.0.1/priority?", (1_000 * 2_500_000 + 100 * 10_000_000) * 170 // 100, "/priority"),
    "gpt-4o-mini": ("config-00000000", None, "config-00000000"),  # a wildcard's own price, which nobody can tell now
    "gone": ("", None, ""),
    "canaried": ("genai-0.0.1", None, "genai-0.0.1"),  # at one of two prices, and the record says not at which
    "ours": ("", 1_000 * 150_000 + 100 * 600_000, "genai-"),  # the account's own target
}


async def test_the_prices_of_now(database: Pool, tmp_path: Path) -> None:
    """Own ones by name, others from the list by the target's name; the service tier of a record stays its own."""
    (key, *_) = await make_keys(database, ("acme",))
    made = [
        outcome(number, account_id=key[0], key_id=key[1], model=model, upstream="east", price_version=version,
                **(dict.fromkeys(("cached_input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
                                  "reasoning_tokens"), 0) | {"input_tokens": 1_000, "output_tokens": 100}), cost_pico=7)
        for number, (model, (version, _, _)) in enumerate(WAS.items())
    ]  # fmt: skip
    await store(database, tmp_path, iter(made))
    own = AccountRoutes(targets={"ours": (OwnTarget("east", "gpt-4o-mini"),)})
    await accountroutes.change(database, "acme", lambda _: own)
    settings = Settings.model_validate(SETTINGS)
    seen = [tallies async for tallies in reprice(database, settings, WHOLE, apply=True)]
    assert [sum(tally.unknown for tally in tallies.values()) for tallies in seen] == [3]
    rows = {row["model"]: row for row in await database.fetch("SELECT model, cost_pico, price_version FROM usage")}
    for model, (_, expected, version) in WAS.items():
        assert rows[model]["cost_pico"] == (7 if expected is None else expected), model
        assert version in rows[model]["price_version"]
        assert not rows[model]["price_version"].endswith("?")


async def test_while_somebody_is_erased(database: Pool, tmp_path: Path) -> None:
    """One waits for the other: what leads to nobody any more is priced as well, and sums are those of the records."""
    seed = random.Random(13)
    keys, old, new = await make_keys(database), rates_of(seed), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, old, 600, days=6))
    wanted = (await run(database, prices(new))).after_pico
    now = await database.fetchval("SELECT now()")
    await asyncio.gather(
        run(database, prices(new), apply=True),
        *(erasing.erase_account(database, tmp_path, account_id, now, 2192) for account_id in (1, 2)),
        run(database, prices(new), apply=True),
    )
    await assert_sums_match(database)
    await run(database, prices(new), apply=True)
    await assert_sums_match(database)
    assert await cost(database) == wanted
    assert {row[0] for row in await database.fetch("SELECT DISTINCT account_id FROM usage")} == {0, 3}
