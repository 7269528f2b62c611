"""Retention in a running daemon: once a day, an alarm when it did not run, nothing dropped when the clock jumped."""

import time
from datetime import timedelta
from pathlib import Path

import pytest

from luntrex_proxy import retaining
from luntrex_proxy.observe.metrics import Metrics
from luntrex_proxy.retaining import Retention
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keeping import ClockError, SteadyClock
from tests.people import make_person
from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
OLD_MAIL = (
    "INSERT INTO mail (kind, person_id, queued_at, ended_at, outcome)"
    " VALUES ('x', $1, now() - interval '30 days', now() - interval '30 days', 'sent')"
)


async def test_once_a_day(database: Pool, tmp_path: Path) -> None:
    """The first round runs, one within the day does not, one after it does; metrics say how old what is there is."""
    person = await make_person(database)
    kept = Retention(database, tmp_path, RetentionPeriods())
    await database.execute(OLD_MAIL, person)
    await kept.round()
    assert await database.fetchval("SELECT count(*) FROM mail") == 0
    await database.execute(OLD_MAIL, person)
    await kept.round()
    assert await database.fetchval("SELECT count(*) FROM mail") == 1
    assert kept.oldest_s()["mail"] == pytest.approx(30 * 86_400, abs=60)
    await database.execute("UPDATE retention_run SET succeeded_at = now() - interval '24 hours'")
    await kept.round()
    assert await database.fetchval("SELECT count(*) FROM mail") == 0
    metrics = Metrics(version="1")
    kept.show_in(metrics)
    assert b"luntrex_retention_overdue 0" in metrics.render()


async def test_an_alarm_after_26_hours(database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from the last whole run, or from the start of the process."""
    kept = Retention(database, tmp_path, RetentionPeriods())
    begun = retaining._now()
    for hours, overdue in ((25, False), (27, True)):
        now = begun + timedelta(hours=hours)
        monkeypatch.setattr(retaining, "_now", lambda now=now: now)
        assert kept.is_overdue() == overdue
    monkeypatch.undo()
    await kept.round()
    assert not kept.is_overdue()


async def test_a_jump_of_the_clock_refuses(database: Pool, tmp_path: Path) -> None:
    """Nothing is dropped, usage neither, until the clock went steadily for a day or somebody says that it is right."""
    person = await make_person(database)
    await database.execute(OLD_MAIL, person)
    await database.execute("UPDATE retention_run SET succeeded_at = now() - interval '3 days'")
    kept = Retention(database, tmp_path, RetentionPeriods())
    with pytest.raises(ClockError):
        await kept.round()
    assert await database.fetchval("SELECT count(*) FROM mail") == 1


def test_a_clock_that_went_steadily_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a day; a jump of the wall clock begins the day anew."""
    wall, steady = 1_800_000_000.0, 1_000.0
    monkeypatch.setattr(time, "time", lambda: wall)
    monkeypatch.setattr(time, "monotonic", lambda: steady)
    clock = SteadyClock()
    wall, steady = wall + 3_600, steady + 3_600
    assert not clock.is_proven()
    wall, steady = wall + 86_400, steady + 86_400
    assert clock.is_proven()
    wall += 3 * 86_400
    assert not clock.is_proven()
    wall, steady = wall + 86_400, steady + 86_400
    assert clock.is_proven()
