"""A console with something on every page, and what stands for the braces in paths of pages."""

import datetime
import time
import uuid
from dataclasses import dataclass
from decimal import Decimal

from luntrex_proxy.control import consents, debugcapture, members, rights, work
from luntrex_proxy.control.access import Person
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.accountroutes import AccountRoutes, OwnTarget
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import (
    accountroutes,
    apikeys,
    billing,
    budgets,
    childreports,
    incidents,
    labels,
    limits,
    registry,
)
from luntrex_proxy.store.attempts import AttemptBook
from luntrex_proxy.store.frames import encode_record
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.sealedbox import make_pair
from luntrex_proxy.store.usage_rows import insert_rows
from tests.people import give_password, make_person
from tests.store.records import id_at, outcome

ADA, BOB = "ada@example.org", "bob@example.org"
DAYS = 64
# Some requests an hour of each key over the last days, in all tables that have them.
_USAGE = f"""
INSERT INTO usage SELECT $1, at, {id_at("at")}, key_id, 'chat_completions', model, upstream,
    CASE WHEN n % 23 = 0 THEN 502 ELSE 200 END, CASE WHEN n % 23 = 0 THEN 'upstream_failed' ELSE 'ok' END, 'complete',
    n % 3 > 0, 'reported', 400 + n % 900, n % 300, 0, 0, 0, 150 + n % 700, 0, 0, (400 + n % 900) * 2500000::bigint,
    'test', 2000, 3000, 40, 1, 900000 + n * 1000, 150000 + (n * 7919 % 900) * 1000, 300
FROM (SELECT n, now() - n * $3::interval AS at, key_id, model, upstream FROM generate_series(0, $4) n
    CROSS JOIN unnest($2::text[]) key_id CROSS JOIN LATERAL (SELECT (ARRAY['gpt-5-mini', 'claude-sonnet-5',
    'llama-4-70b'])[1 + n % 3] AS model, (ARRAY['openai', 'anthropic', 'local'])[1 + n % 3] AS upstream) m) rows
"""
_STATED = {"nature": "A bucket of backups could be read by anybody.", "measures": "It is closed."}
_TRAIL = "local=region;.key@20000+12000;openai@40000+60000=http_503;anthropic@102000"
_SUMMED = "count(*), count(*) FILTER (WHERE status >= 400), " + ", ".join(
    f"sum({name})"
    for name in (
        "input_tokens", "cached_input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "input_audio_tokens",
        "output_tokens", "reasoning_tokens", "output_audio_tokens", "cost_pico",
    )
)  # fmt: skip
SUMS = (
    "INSERT INTO usage_rollup SELECT account_id, date_trunc('hour', started_at, 'UTC'), key_id, model, upstream,"
    f" {_SUMMED} FROM usage GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 1, 3, 4, 5",  # as time brings them
    "INSERT INTO usage_rollup_daily SELECT account_id, (started_at AT TIME ZONE 'UTC')::date, key_id, model, upstream,"
    f" {_SUMMED} FROM usage GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 1, 3, 4, 5",
    "INSERT INTO first_byte SELECT account_id, date_trunc('hour', started_at, 'UTC'),"
    " floor(8 * ln(first_byte_us) / ln(2)), count(*) FROM usage WHERE streamed AND status < 400 GROUP BY 1, 2, 3",
)
# What some pages need after the question mark.
_QUERIES = {
    "/accounts/{account_id}/limits/edit": "?whose=account",
    "/accounts/{account_id}/limits/budgets": "?whose=account",
}


@dataclass(frozen=True)
class Places:
    """What was made."""

    account_id: int
    key_id: str  # Ada's own
    person_id: uuid.UUID  # Ada's
    request_id: uuid.UUID  # Ada's
    work_id: uuid.UUID  # a look at new prices
    reference: str  # of Bob's erasure
    report_id: uuid.UUID

    def path(self, path: str) -> str:
        """A route's path with values for its braces."""
        query = _QUERIES.get(path, "")
        for name, value in self._values():
            path = path.replace(f"{{{name}}}", str(value))
        return path + query

    def _values(self) -> tuple[tuple[str, object], ...]:
        month = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).strftime("%Y-%m")
        return (
            ("account_id", self.account_id), ("key_id", self.key_id), ("request_id", self.request_id),
            ("person_id", self.person_id), ("month", month), ("purpose", "training"), ("incident_id", 2),
            ("reference", self.reference), ("report_id", self.report_id), ("subprocessor", "openai"),
            ("work_id", self.work_id),
        )  # fmt: skip


async def fill(services: Services, *, requests: int = 1_500) -> Places:
    """Ada, who runs it and owns acme and a second account; Bob, a developer there; keys, limits, budgets, usage."""
    pool = services.pool
    ada = await make_person(pool, ADA, operator=True, acme="owner", beta="viewer")
    bob = await make_person(pool, BOB, acme="developer")
    for person in (ada, bob):
        await give_password(services, person)
    account_id = await pool.fetchval("SELECT account_id FROM account WHERE name = 'acme'")
    await labels.declare(pool, "acme", "project", ["search", "chat"])
    made = []
    for name, person_id, label in (("ci", None, "search"), ("laptop", ada, "chat"), ("bobs", bob, "search")):
        terms = Terms(labels={"project": label})
        owner = None if person_id is None else str(person_id)
        made.append(
            await apikeys.create(pool, services.lookup, "acme", name, terms, person_id=owner, bcrypt_cost=4)
        )  # fmt: skip
    key_ids = [new.info.key_id for new in made]
    await limits.of_key(pool, key_ids[0], "", {"requests/minute": 60, "streams": 4})
    for number, day in (("2026-0009", 3), ("2026-0010", 17)):
        on = datetime.date(2026, 1, day)
        await billing.issue(pool, account_id, number, "Acme GmbH", "DE", Decimal("1234.50"), "EUR", on)
    await billing.pay(pool, "2026-0009", datetime.date(2026, 2, 1))
    await budgets.change(pool, budgets.Whose(account_id), {"month": 250 * 10**12}, budgets.Terms())
    await consents.give(pool, account_id, consents.Purpose.DEBUG_CAPTURE)
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    for days, title in ((9, "lost laptop"), (2, "open bucket")):
        reach = incidents.Reach("table", "membership", now - datetime.timedelta(days=days), now)
        await incidents.open_(pool, title, now - datetime.timedelta(days=days), [reach], _STATED)
    await incidents.close(pool, 1, "nothing was on it")
    await incidents.notify(pool, 2, [bob], [account_id], by_mail=False)
    asked = await rights.ask_erasure(pool, bob, now, datetime.timedelta(days=7))
    await childreports.receive(pool, BOB, None, "parent")
    report_id = await pool.fetchval("SELECT report_id FROM child_report")
    entry = {"hosts": ("api.openai.com",), "purpose": "language models", "region": "us", "kept": "abuse_monitoring:30"}
    await registry.change(pool, "openai", entry, in_use=True)
    await registry.change(pool, "openai", {"training": "never", "region": "eu"})
    own = AccountRoutes(
        ("gpt-5*", "fast"), {"fast": (OwnTarget("local", "qwen3-8b", 3), OwnTarget("openai", "gpt-5", 0))}
    )
    await accountroutes.change(pool, "beta", lambda _before: own)
    who = Person(str(ada), roles={account_id: Role.OWNER})
    await members.invite(services, who, account_id, "eve@example.org", Role.BILLING)
    await debugcapture.start(pool, who, account_id, key_ids[0], make_pair()[1], 20, 10)
    book = AttemptBook()
    for network, code, key_id in (("198.51.100.0/24", "key_wrong", key_ids[0]), ("local", "key_expired", key_ids[1])):
        book.note(network, code, key_id)
    await book.write(pool)
    await _use(services, account_id, key_ids, requests)
    request_id = await pool.fetchval(
        "SELECT request_id FROM usage WHERE key_id = $1 ORDER BY started_at DESC", key_ids[1]
    )
    await pool.execute("UPDATE usage SET trail = $2, attempts = 2 WHERE request_id = $1", request_id, _TRAIL)
    looked = await _look_at_prices(services, account_id)
    return Places(account_id, key_ids[1], ada, request_id, looked, asked.reference, report_id)


async def _look_at_prices(services: Services, account_id: int) -> uuid.UUID:
    """One that has ended, and a copy of somebody's data that was not fetched to its end."""
    await work.begin(services.pool, "export", {})
    await services.pool.execute("UPDATE work SET told_at = now() - interval '1 hour'")
    about = {"since": "2026-10-01", "until": "2026-10-31", "account": None, "model": None, "apply": False}
    whole = {
        "requests": 900,
        "changed": 300,
        "unknown": 2,
        "before_pico": "4000000000000",
        "after_pico": "3200000000000",
    }
    async with work.told(services.pool, await work.begin(services.pool, "repricing", about)) as progress:
        progress.to(900, 900)
        progress.result = {"whole": whole, "totals": [{"account_id": account_id, "model": "house"} | whole], "more": 0}
    return progress.work_id


async def _use(services: Services, account_id: int, key_ids: list[str], requests: int) -> None:
    today = (await services.pool.fetchval("SELECT now()")).date()
    await ensure_partitions(services.pool, today - datetime.timedelta(days=DAYS), DAYS + 1)
    async with services.pool.acquire() as connection:
        step = datetime.timedelta(days=DAYS - 1) / requests
        await connection.execute(_USAGE, account_id, key_ids, step, requests)
        for statement in SUMS:
            await connection.execute(statement)


async def use_now(services: Services, key_id: str) -> None:
    """One streamed request of a key, as the shipper would store it."""
    account_id = await services.pool.fetchval("SELECT account_id FROM api_key WHERE key_id = $1", key_id)
    now = await services.pool.fetchval("SELECT now()")
    await ensure_partitions(services.pool, now.date(), 1)
    record = outcome(
        1, account_id=account_id, key_id=key_id, started_us=int(now.timestamp() * 1e6), input_tokens=40,
        cached_input_tokens=0, cache_write_5m_tokens=0, cache_write_1h_tokens=0, output_tokens=20, reasoning_tokens=0,
        cost_pico=10**8,
    )  # fmt: skip
    async with services.pool.acquire() as connection, connection.transaction():
        await insert_rows(connection, [encode_record(record)])
