"""Reading usage: totals and single requests, as functions and as the verbs print them."""

import asyncio
import json
import random
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from luntrex_proxy.cli import main
from luntrex_proxy.core.consents import Purpose
from luntrex_proxy.core.outcome import Ending, Tokens, UsageSource
from luntrex_proxy.gateway.request_id import new_request_id
from luntrex_proxy.store import audit, consents
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.frames import decode_record, encode_record
from luntrex_proxy.store.spool import Spool
from luntrex_proxy.store.usage import micros, request, requests, totals
from luntrex_proxy.store.usage_rows import lines_of
from luntrex_proxy.store.usagepages import Only, one_request, requests_page
from tests.people import make_person
from tests.store.records import NOON_US, opening, outcome, request_id, ship

SINCE, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
KEY = "INSERT INTO api_key (key_id, account_id, name, bcrypt_hash, lookup_hash, pepper_fingerprint, version)"


async def fill(database: Pool, root: Path, started_us: int = NOON_US) -> None:
    """Two accounts, two keys, two models; one failed request."""
    for name in ("acme", "other"):
        await database.execute("INSERT INTO account (name) VALUES ($1)", name)
    await database.execute(f"{KEY} VALUES ('abcdefghijkl', 1, 'main', '$2b$x', $1, 'f', 1)", bytes(32))
    spool = Spool(root, uuid.uuid4())
    for number in range(4):
        spool.settle(outcome(number, started_us=started_us + number, cost_pico=2_500_000))
    spool.settle(
        outcome(
            4,
            started_us=started_us + 4,
            model="other",
            status=502,
            code="upstream_failed",
            ending=Ending.UPSTREAM_FAILED,
            usage_source=UsageSource.UNKNOWN,
            **Tokens().columns(),
            cost_pico=0,
        )
    )
    spool.settle(outcome(5, started_us=started_us + 5, account_id=2, key_id="mnopqrstuvwx"))
    await ship(database, root, spool)


async def test_records_with_and_without_a_trail_are_stored_together(database: Pool, tmp_path: Path) -> None:
    """One without is as the release before wrote it, byte for byte, so that either reads the other's."""
    trails = {0: "", 1: "a=region;b@300+2000=http_429;c@2400", 2: "", 3: ".body@20+9000"}
    records = [outcome(number, trail=trail) for number, trail in trails.items()]
    known = new_request_id(records[1].started_us / 1e6)
    records[1] = replace(records[1], request_id=known)
    payload = encode_record(records[0])
    assert payload.endswith(b",5000,700,60]")
    assert decode_record(payload) == records[0]
    spool = Spool(tmp_path, uuid.uuid4())
    for record in records:
        spool.settle(record)
    await ship(database, tmp_path, spool)
    stored = await database.fetch("SELECT trail, overhead_us FROM usage ORDER BY started_at")
    assert [tuple(row) for row in stored] == [(trail, 60) for trail in trails.values()]
    for damaged in (payload[:-1], b"", b"]"):
        with pytest.raises(ValueError, match="record"):
            lines_of([payload, damaged])
    found = await request(database, known)
    assert (found.trail, found.labels) == (trails[1], {})
    for wrong in (request_id(77), "no-uuid", "0199c0de-0000-7000-8000-000000000001"):
        with pytest.raises(RefusedError, match="no such request"):
            await request(database, wrong)


@pytest.mark.parametrize(
    ("pico", "expected"),
    [
        (0, 0),
        (499_999, 0),
        (500_000, 0),
        (500_001, 1),
        (1_500_000, 2),
        (2_500_000, 2),
        (2_500_001, 3),
        (10**25, 10**19),
    ],
)
def test_micro_dollars_round_half_to_even(pico: int, expected: int) -> None:
    """Display rounding is exact on integers of any size."""
    assert micros(pico) == expected


async def test_totals_by_key_model_and_upstream(database: Pool, tmp_path: Path) -> None:
    """Sums come by account, key, model and upstream, with names where they exist."""
    await fill(database, tmp_path / "spool")
    found = await totals(database, SINCE, UNTIL)
    assert [(t.account, t.key_name, t.model, t.upstream, t.requests, t.errors) for t in found] == [
        ("acme", "main", "mock-model", "local", 4, 0),
        ("acme", "main", "other", "local", 1, 1),
        ("other", None, "mock-model", "local", 1, 0),
    ]
    assert (found[0].input_tokens, found[0].output_tokens, found[0].cost_pico) == (46, 86, 10_000_000)
    assert await totals(database, SINCE, UNTIL, "other") == found[2:]
    assert await totals(database, UNTIL, UNTIL + timedelta(days=1)) == []
    with pytest.raises(RefusedError):
        await totals(database, SINCE, UNTIL, "nobody")


async def test_requests_newest_first(database: Pool, tmp_path: Path) -> None:
    """Single requests come newest first, bounded, by account and by key."""
    await fill(database, tmp_path / "spool")
    found = await requests(database, SINCE, UNTIL, 4)
    assert [str(request.request_id) for request in found] == [request_id(number) for number in (5, 4, 3, 2)]
    assert len(await requests(database, SINCE, UNTIL, 100, account="acme")) == 5
    assert len(await requests(database, SINCE, UNTIL, 100, key_id="mnopqrstuvwx")) == 1
    assert len(await requests(database, SINCE, UNTIL, 100, account="acme", key_id="mnopqrstuvwx")) == 0


async def invoke(arguments: list[str], database_dsn: str, tmp_path: Path) -> Result:
    """Run a verb with a configuration that names this test's database."""
    config = tmp_path / "luntrex-proxy.yaml"
    (tmp_path / "dsn").write_text(database_dsn)
    config.write_text(
        json.dumps(
            {
                "state": {"directory": str(tmp_path)},
                "database": {"url": {"file": str(tmp_path / "dsn")}},
                "upstreams": [{"name": "local", "dialect": "openai", "base_url": "http://127.0.0.1:9001/v1"}],
                "models": [{"name": "mock-model", "targets": [{"upstream": "local", "model": "mock-model"}]}],
            }
        )
    )
    return await asyncio.to_thread(CliRunner().invoke, main, ["--config", str(config), *arguments])


@pytest.mark.parametrize(
    "never_made",
    [
        "6ba7b810-9dad-41d1-80b4-00c04fd430c8",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
        "00000000-0000-0000-0000-000000000000",
    ],
)
async def test_an_id_that_no_gateway_makes_is_of_no_request(database: Pool, tmp_path: Path, never_made: str) -> None:
    """It tells no moment, so each day would have to be looked through for it; not even where somebody wrote a row."""
    await fill(database, tmp_path)
    await database.execute("UPDATE usage SET request_id = $1", never_made)
    with pytest.raises(RefusedError, match="no such request"):
        await request(database, never_made)
    assert await one_request(database, 1, str(uuid.uuid4()), never_made) is None


async def test_older_requests_are_read_from_where_the_newer_ended(database: Pool, tmp_path: Path) -> None:
    """Page by page each once, also several of one moment that a page ends amid."""
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(200):
        spool.settle(outcome(number, started_us=NOON_US + number // 7))
    await ship(database, tmp_path / "spool", spool)
    read: list[str] = []
    after = None
    while found := await requests_page(database, 1, str(uuid.uuid4()), (SINCE, UNTIL), Only(), after, 9):
        read += [each.request_id for each in found]
        after = found[-1].started_at, found[-1].request_id
    assert read == [
        row[0]
        for row in await database.fetch("SELECT request_id::text FROM usage ORDER BY started_at DESC, request_id DESC")
    ]


async def test_the_verb_prints_totals(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """`usage --json` is a list of totals; without it a table."""
    await fill(database, tmp_path / "spool")
    result = await invoke(["usage", "--json", "--days", "3650"], database_dsn, tmp_path)
    assert result.exit_code == 0, result.output
    first = json.loads(result.stdout)[0]
    assert (first["account"], first["key_name"], first["requests"]) == ("acme", "main", 4)
    assert (first["cost_pico"], first["cost_micros"]) == (10_000_000, 10)
    result = await invoke(["usage", "--days", "3650"], database_dsn, tmp_path)
    assert "mock-model" in result.stdout
    assert "0.000010" in result.stdout
    result = await invoke(["usage", "--account", "nobody"], database_dsn, tmp_path)
    assert (result.exit_code, "no account" in result.output) == (1, True)


async def test_the_verb_prints_requests(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """`usage --requests --json` is a list of requests with the promised fields and RFC 3339 times in UTC."""
    await fill(database, tmp_path / "spool")
    result = await invoke(["usage", "--json", "--requests", "--days", "3650", "--limit", "2"], database_dsn, tmp_path)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert len(found) == 2
    assert {
        *("request_id", "started_at", "account", "key_id", "key_name", "route", "status", "code", "ending", "model"),
        *("upstream", "input_tokens", "cached_input_tokens", "output_tokens", "reasoning_tokens", "cost_micros"),
        *("cost_pico", "usage_source", "streamed"),
    } <= set(found[0])
    assert found[1]["request_id"] == request_id(4)
    assert [each["price_known"] for each in found] == [True, True]
    await database.execute("UPDATE usage SET price_version = '' WHERE request_id = $1", request_id(5))
    result = await invoke(["usage", "--json", "--requests", "--days", "3650", "--limit", "2"], database_dsn, tmp_path)
    assert [each["price_known"] for each in json.loads(result.stdout)] == [False, True]
    assert found[1]["started_at"] == "2026-09-21T14:13:20.000004Z"
    result = await invoke(["usage", "--requests", "--days", "3650"], database_dsn, tmp_path)
    assert request_id(3) in result.stdout


async def test_the_verbs_show_no_members_own_request(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """Unless the account agreed before it came; then whose were looked at is on record, once for each account."""
    await fill(database, tmp_path / "spool")
    bob = await make_person(database, "bob@example.org", acme="developer")
    await database.execute("UPDATE api_key SET person_id = $1", bob)
    third = new_request_id(NOON_US / 1e6)
    await database.execute("UPDATE usage SET request_id = $2 WHERE request_id = $1", request_id(3), third)
    listing = ["usage", "--requests", "--days", "3650", "--json"]

    async def ids() -> set[str]:
        result = await invoke(listing, database_dsn, tmp_path)
        return {each["request_id"] for each in json.loads(result.stdout)}

    assert await ids() == {request_id(5)}
    assert (await invoke(["requests", "show", third], database_dsn, tmp_path)).exit_code == 1
    await consents.give(database, "acme", Purpose.MEMBER_REQUESTS)
    assert await ids() == {request_id(5)}, "not of before"
    assert await audit.newest(database, 9, act="member.requests_seen") == []
    given = "(SELECT started_at FROM usage WHERE request_id = $1)"
    await database.execute(f"UPDATE consent SET given_at = {given}", third)
    assert await ids() == {third, request_id(4), request_id(5)}
    result = await invoke(["requests", "show", third, "--json"], database_dsn, tmp_path)
    assert json.loads(result.stdout)["member_id"] == str(bob)
    looks = await audit.newest(database, 9, act="member.requests_seen")
    assert [(look.object_id, look.account, look.facts) for look in looks] == [
        (third, "acme", {"members": [str(bob)], "requests": 1}),
        ("usage.requests", "acme", {"members": [str(bob)], "requests": 2}),
    ]
    await consents.withdraw(database, "acme", Purpose.MEMBER_REQUESTS)
    assert await ids() == {request_id(5)}


async def test_the_verbs_of_the_ledger(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """`ledger status` shows a dead directory, `ledger replay` stores it and says what it did; then nothing is left."""
    spool = Spool(tmp_path / "spool", uuid.uuid4())
    for number in range(3):
        spool.open(opening(number))
    spool.settle(outcome(0))
    spool.close()
    spool.directory.unlock()
    result = await invoke(["ledger", "status", "--json"], database_dsn, tmp_path)
    assert result.exit_code == 0, result.output
    (directory,) = json.loads(result.stdout)["directories"]
    assert (directory["boot_id"], directory["live"], directory["unsettled"]) == (str(spool.directory.boot_id), False, 2)
    assert "dead" in (await invoke(["ledger", "status"], database_dsn, tmp_path)).stdout
    result = await invoke(["ledger", "replay", "--json"], database_dsn, tmp_path)
    assert result.exit_code == 0, result.output
    counts = json.loads(result.stdout)
    assert (counts["stored"], counts["interrupted"], counts["finished"]) == (1, 2, True)
    result = await invoke(["ledger", "replay"], database_dsn, tmp_path)
    assert (result.exit_code, "stored 0" in result.stdout) == (0, True)
    assert await database.fetchval("SELECT count(*) FROM usage") == 3


async def test_totals_over_any_span_are_sums_of_rows(database: Pool, tmp_path: Path) -> None:
    """Whole days come from the daily sums and the rest from the hourly ones: together exactly the rows of the span."""
    seed = random.Random(3)
    spool = Spool(tmp_path, uuid.uuid4())
    for number in range(300):
        spool.settle(outcome(number, started_us=NOON_US + seed.randrange(4 * 86_400) * 1_000_000))
    await ship(database, tmp_path, spool)
    start = datetime(2026, 9, 21, tzinfo=UTC)
    for _ in range(60):
        since = start + timedelta(minutes=seed.randrange(5 * 1440))
        until = since + seed.choice([timedelta(hours=2), timedelta(days=1), timedelta(days=3, hours=5)])
        if seed.random() < 0.3:
            since, until = since.replace(hour=0, minute=0), until.replace(hour=0, minute=0)
        rows = await database.fetchrow(
            "SELECT count(*) AS n, sum(cost_pico)::bigint AS cost FROM usage"
            " WHERE started_at >= date_trunc('hour', $1::timestamptz) AND"
            " date_trunc('hour', started_at) < $2",
            since,
            until,
        )
        assert rows is not None
        found = await totals(database, since, until)
        assert [(each.requests, each.cost_pico) for each in found] == ([(rows["n"], rows["cost"])] if rows["n"] else [])


async def test_the_verbs_of_retention(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """`retention show` and `run --dry-run` say what is due and change nothing; `run` drops it; totals stay."""
    now_us = int(await database.fetchval("SELECT extract(epoch FROM now())")) * 1_000_000
    await fill(database, tmp_path / "spool", now_us - 500 * 86_400_000_000)
    result = await invoke(["retention", "show", "--json"], database_dsn, tmp_path)
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert (shown["periods"]["usage_days"], shown["periods"]["totals_days"]) == (396, 3653)
    assert (shown["due"]["requests"], shown["kept"]["usage_days"]) == (6, 1)
    assert "6 in 1 days" in (await invoke(["retention", "show"], database_dsn, tmp_path)).stdout
    result = await invoke(["retention", "run", "--dry-run"], database_dsn, tmp_path)
    assert (result.exit_code, "would drop 6 requests in 1 days" in result.stdout) == (0, True)
    assert await database.fetchval("SELECT count(*) FROM usage") == 6
    result = await invoke(["retention", "run", "--json"], database_dsn, tmp_path)
    done = json.loads(result.stdout)
    assert (done["requests"], done["finished"], done["dry_run"]) == (6, True, False)
    assert await database.fetchval("SELECT count(*) FROM usage") == 0
    result = await invoke(["usage", "--json", "--days", "1000"], database_dsn, tmp_path)
    assert sum(total["requests"] for total in json.loads(result.stdout)) == 6
    async with database.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", 0x6C756E74_03)
        result = await invoke(["retention", "run"], database_dsn, tmp_path)
    assert (result.exit_code, "run it again later" in result.stderr) == (1, True)


@pytest.mark.parametrize(
    "alien", [b"\xc1ab", b'["open","x"]', b'["settle","a"]\n["settle","b"]', b'["settle","a"', b""]
)
def test_only_whole_outcomes_become_lines(alien: bytes) -> None:
    """Whatever else a sound frame holds, alone or among others, never becomes a row or part of one."""
    good = encode_record(outcome(1))
    for records in ([alien], [good, alien], [alien, good], [good, alien, good]):
        with pytest.raises(ValueError, match="not a usage record"):
            lines_of(records)
    assert lines_of([good, good]).count(b"\n") == 1
