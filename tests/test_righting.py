"""Legal clocks in the daemon: how near the next end of each is, as a scrape shows it."""

import asyncio
import datetime
import time
from datetime import timedelta
from pathlib import Path

import pytest

from luntrex_proxy import chores, righting
from luntrex_proxy.control import children, rights
from luntrex_proxy.core.rights import Law
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.righting import Rights
from luntrex_proxy.store import childreports, incidents
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keeping import SteadyClock
from tests.people import make_person
from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


async def test_the_nearest_end_of_each_clock_is_a_metric(database: Pool, tmp_path: Path) -> None:
    """Of several the first; negative when it is over; none for what nobody waits for, exercises included."""
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    kept = Rights(database, tmp_path, 2192)
    await kept.round()
    assert kept.due_s() == {}
    for number, days in enumerate((3, 20)):
        person = await make_person(database, f"{number}@example.org")
        asked = await rights.ask_erasure(database, person, now, 30 * DAY, law=Law.LGPD)
        await database.execute(
            "UPDATE rights_request SET received_at = $2 WHERE reference = $1", asked.reference, now - days * DAY
        )
    await incidents.open_(database, "exercise", now - 70 * HOUR, drill=True)
    number = (await incidents.open_(database, "A leak", now - 30 * HOUR)).incident_id
    await make_person(database, "kid@example.org")
    await childreports.receive(database, "kid@example.org", None, "other")
    await children.confirm(database, (await childreports.list_all(database))[0].report_id, now)
    await kept.round()
    due = {clock: round(left_s / 3600) for clock, left_s in kept.due_s().items()}
    assert due.pop("gdpr") > 24 * 27  # the child's erasure is a request as well
    assert due == {"lgpd": -5 * 24, "decision": -6, "authority": 42, "child_erasure": 72}
    metrics = Metrics(version="1")
    metrics.watch("luntrex_legal_due_seconds", kept.due_s)
    assert b'luntrex_legal_due_seconds{clock="authority"} 15' in metrics.render()
    await incidents.change(database, number, {"authority_notified_at": now - HOUR})
    await kept.round()
    assert kept.due_s().keys() == {"gdpr", "lgpd", "child_erasure"}
    assert kept.due_s()["lgpd"] == pytest.approx(-5 * 86_400, abs=60)


async def test_a_jump_of_the_clock_erases_nobody(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours alone, or that of the database's machine too: the time to think lasts until the clock is proven right."""
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    person = await make_person(database)
    await rights.ask_erasure(database, person, now, 7 * DAY)
    kept = Rights(database, tmp_path, 2192)
    with monkeypatch.context() as patch:
        patch.setattr(righting, "_now", lambda: now + 8 * DAY)
        await kept.round()
    assert await database.fetchval("SELECT count(*) FROM person") == 1, "the database says otherwise"
    await database.execute("UPDATE rights_request SET act_at = now() - interval '1 day'")
    await database.execute("UPDATE retention_run SET succeeded_at = now() - interval '8 days'")
    await kept.round()
    assert await database.fetchval("SELECT count(*) FROM person") == 1, "eight days in one night"
    monkeypatch.setattr(SteadyClock, "is_proven", lambda _: True)
    await kept.round()
    assert await database.fetchval("SELECT count(*) FROM person") == 0


async def test_nor_a_child(database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time to undo a confirmed report does not end by a jump either; suspended they are at once."""
    now = datetime.datetime.fromtimestamp(time.time(), datetime.UTC)
    monkeypatch.setattr(chores, "_CHILD_REPORTS_EVERY_S", 0.01)
    await make_person(database, "kid@example.org")
    await childreports.receive(database, "kid@example.org", None, "other")
    report = (await childreports.list_all(database))[0]
    await children.confirm(database, report.report_id, now)

    async def rounds(until: str, count: int = 1) -> None:
        task = asyncio.create_task(chores.keep_child_reports(database, tmp_path, 2192))
        try:
            async with asyncio.timeout(20):
                for _ in range(count):
                    await database.execute("UPDATE person SET status = 'active'")
                    while not await database.fetchval(f"SELECT {until}"):
                        await asyncio.sleep(0.02)
        finally:
            task.cancel()

    suspended = "bool_and(status = 'suspended') FROM person"
    with monkeypatch.context() as patch:
        patch.setattr(chores, "utc_now", lambda: now + 3 * DAY)
        await rounds(suspended, 2)
    assert await database.fetchval("SELECT count(*) FROM person") == 1, "the database says otherwise"
    await database.execute("UPDATE child_report SET erase_due_at = now() + interval '1 hour'")
    await database.execute("UPDATE retention_run SET succeeded_at = now() - interval '8 days'")
    await rounds(suspended, 2)
    assert await database.fetchval("SELECT count(*) FROM person") == 1, "eight days in one night"
    monkeypatch.setattr(SteadyClock, "is_proven", lambda _: True)
    await rounds("count(*) = 0 FROM person")
