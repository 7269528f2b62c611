"""A month of made-up requests: several accounts, keys and models, every class of tokens, failures. No tests here."""

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from luntrex_proxy.core.outcome import Ending, Outcome, Tokens, UsageSource
from luntrex_proxy.core.pricing import Price, Rates, fill_rates
from luntrex_proxy.store import accounts, apikeys, labels
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.spool import Spool
from tests.postgres import LOOKUP
from tests.store.records import outcome, request_id, ship

SEPTEMBER = datetime(2026, 9, 1, tzinfo=UTC)
MODELS = ("large", "small", "other", "audio")


def rates_of(seed: random.Random) -> dict[str, Rates]:
    """Prices of all models but `other`, to the pico-dollar."""
    classes = ("input", "output", "cached_input", "cache_write_5m", "cache_write_1h", "input_audio", "reasoning")
    return {
        model: fill_rates({name: seed.randrange(1, 10**8) for name in classes}) for model in MODELS if model != "other"
    }


def records(
    seed: random.Random,
    keys: list[tuple[int, str]],
    rates: dict[str, Rates],
    count: int,
    first: int = 0,
    days: int = 30,
) -> Iterator[Outcome]:
    """Requests at any time of a month from its first day on, priced by `rates`."""
    start_us = int(SEPTEMBER.timestamp()) * 1_000_000
    for number in range(first, first + count):
        account_id, key_id = seed.choice(keys)
        model = seed.choice(MODELS)
        has_failed = seed.random() < 0.1
        whole_input, whole_output = seed.randrange(300_000), seed.randrange(20_000)
        parts = sorted(seed.randrange(whole_input + 1) for _ in range(4))
        tokens = Tokens(
            whole_input, parts[0], parts[1] - parts[0], parts[2] - parts[1], parts[3] - parts[2], whole_output,
            seed.randrange(whole_output + 1), 0,
        )  # fmt: skip
        price = Price(rates.get(model), model, "v1" if model in rates else "")
        failed = {"status": 502, "code": "upstream_cut", "ending": Ending.UPSTREAM_FAILED} if has_failed else {}
        yield outcome(
            number,
            request_id=request_id(number),
            account_id=account_id,
            key_id=key_id,
            started_us=start_us + seed.randrange(days * 86_400_000_000),
            model=model,
            upstream=seed.choice(("east", "west")),
            usage_source=UsageSource.ESTIMATED if has_failed else UsageSource.REPORTED,
            **tokens.columns(),
            cost_pico=price.cost_pico(tokens),
            price_version=price.version,
            **failed,
        )


async def make_keys(pool: Pool, names: tuple[str, ...] = ("acme", "bolt", "core")) -> list[tuple[int, str]]:
    """Two keys of each account, whose labels change in the middle of September; ids of accounts and keys."""
    keys = []
    for name in names:
        account = await accounts.create(pool, name)
        await labels.declare(pool, name, "project", None)
        for number in range(2):
            made = await apikeys.create(pool, LOOKUP, name, f"key{number}", bcrypt_cost=4)
            keys.append((account.account_id, made.info.key_id))
            for day, project in ((1, "before"), (15, "after")):
                since = (SEPTEMBER + timedelta(days=day - 1)).date()
                await labels.of_key(pool, made.info.key_id, {"project": f"{project}{number}"}, since=since)
    return keys


async def store(pool: Pool, root: Path, made: Iterator[Outcome]) -> None:
    """Put them into the ledger as a daemon does."""
    spool = Spool(root, uuid.uuid4())
    for record in made:
        spool.settle(record)
    await ship(pool, root, spool)
