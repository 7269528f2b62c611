"""Long work on record: how far it is, how it ended, and the truth about what was killed."""

import asyncio
import contextlib
import random
import zipfile
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from luntrex_proxy.control import repricing, rights, statements, work
from luntrex_proxy.control.acts import RefusedError
from luntrex_proxy.control.rights import Law
from luntrex_proxy.control.work import Progress, Work
from luntrex_proxy.settings.retention import RetentionPeriods
from luntrex_proxy.store import erasing, holds
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.repricing import Selection
from tests.people import make_person, services_of
from tests.store.months import make_keys, rates_of, records, store
from tests.store.test_erasing import key_of, use

NOW = datetime(2026, 10, 1, tzinfo=UTC)
SILENT = "UPDATE work SET told_at = told_at - interval '1 minute'"


async def ended(pool: Pool) -> Work:
    """The newest piece of work, when it has ended."""
    async with asyncio.timeout(30):
        while (found := (await work.newest(pool, 1))[0]).ended_at is None:
            await asyncio.sleep(0.02)
    return found


async def test_it_is_on_record_from_its_beginning_to_its_end(database: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs it tells by itself how far it is; done, failed in our words, or stopped."""
    monkeypatch.setattr(work.table, "TELLS_EVERY_S", 0.01)
    async with work.told(database, await work.begin(database, "closing", {"month": "2026-09-01"})) as progress:
        progress.to(3, 7)
        async with asyncio.timeout(30):
            while (await work.newest(database, 1))[0].done != 3:
                await asyncio.sleep(0.01)
        with pytest.raises(RefusedError, match="under way"):
            await work.begin(database, "closing", {})
        progress.to(7, 7)
    found = await ended(database)
    assert (found.state, found.done, found.expected, found.about) == ("done", 7, 7, {"month": "2026-09-01"})
    for error, state, words in (
        (RefusedError("Ask later."), "failed", "Ask later."),
        (ValueError("secret"), "failed", "Something went wrong here"),
        (asyncio.CancelledError(), "stopped", ""),
    ):
        with contextlib.suppress(type(error)):
            async with work.told(database, await work.begin(database, "closing", {})):
                raise error
        found = await ended(database)
        assert found.state == state
        assert str(found.result.get("error", "")).startswith(words)
        assert "secret" not in str(found)


async def test_what_was_killed_was_interrupted(database: Pool) -> None:
    """Nothing is told of it any more: it is said to be so, and it does not stand in the way of another one."""
    await work.begin(database, "repricing", {})
    assert (await work.newest(database, 1))[0].state == "running"
    await database.execute(SILENT)
    assert (await work.newest(database, 1))[0].state == "interrupted"
    await work.begin(database, "repricing", {})
    assert [each.state for each in await work.newest(database, 2)] == ["running", "interrupted"]


async def test_an_export_tells_how_many_rows_are_fetched(database: Pool, database_dsn: str, tmp_path: Path) -> None:
    """All of them at its end; who stops fetching has stopped it. Whose it was leads to it, and goes with them."""
    ada = await make_person(database, acme="owner")
    await use(database, tmp_path, 1, await key_of(database, "acme", "k", ada), *range(20))
    for whole, state in ((True, "done"), (False, "stopped")):
        _, token, _ = await rights.offer_export(database, ada)
        pieces = await rights.take_export(database, database_dsn, token, RetentionPeriods().by_class())
        got = b""
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                got += piece
                if not whole:
                    break
        found = await ended(database)
        assert (found.state, found.person_id, found.begun_by) == (state, ada, f"console:{ada}")
        if whole:
            assert zipfile.ZipFile(BytesIO(got)).testzip() is None
            assert found.done == found.expected > 2 * 20
            assert found.result == {"bytes": len(got)}
    assert len(await work.newest(database, 9, person_id=ada)) == 2
    await erasing.erase_person(database, tmp_path, ada, NOW, 30)
    assert await work.newest(database, 9) == []


async def test_an_erasure_is_work_from_when_nothing_holds_it(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has to wait is none, however often it is tried. Killed half way, it is done after the next start."""

    async def killed(*_: object) -> None:
        raise asyncio.CancelledError

    ada = await make_person(database, acme="owner")
    await use(database, tmp_path, 1, await key_of(database, "acme", "k", ada), 1)
    request = await rights.ask_erasure(database, ada, NOW, timedelta(0), law=Law.GDPR)
    hold = await holds.place(database, "case", ada)
    with pytest.raises(rights.HeldError):
        await rights.carry_out(database, tmp_path, request, NOW, 30)
    assert await work.newest(database, 9) == []
    await holds.lift(database, hold.hold_id)
    with monkeypatch.context() as killing:
        killing.setattr(erasing, "_erase_at_once", killed)
        with pytest.raises(asyncio.CancelledError):
            await rights.carry_out(database, tmp_path, request, NOW, 30)
    found = await work.of_request(database, request.reference)
    assert found is not None
    assert (found.state, 0 < found.done < found.expected) == ("stopped", True)
    await erasing.catch_up(database, tmp_path, NOW, 30)
    found = await work.of_request(database, request.reference)
    assert found is not None
    assert (found.state, found.done) == ("done", found.expected)
    assert found.expected > 2
    assert str(ada) not in str(found)


async def test_prices_and_months_are_worked_through_beside_who_asked(database: Pool, tmp_path: Path) -> None:
    """Records of how many; a look changes nothing. Closed for all accounts, those with nothing left out."""
    seed = random.Random(4)
    await store(database, tmp_path, records(seed, await make_keys(database), rates_of(seed), 300, days=5))
    services = services_of(database, tmp_path)
    selection = Selection(date(2026, 9, 1), date(2026, 9, 30))
    before = await database.fetch("SELECT * FROM usage ORDER BY request_id")
    await repricing.begin(services, selection, apply=False)
    found = await ended(database)
    assert (found.state, found.done, found.expected) == ("done", 300, 300)
    assert (found.result["whole"]["requests"], found.result["whole"]["unknown"]) == (300, 300)
    assert await database.fetch("SELECT * FROM usage ORDER BY request_id") == before
    await statements.begin_closing(database, date(2026, 9, 1))
    found = await ended(database)
    closed = await database.fetchval("SELECT count(*) FROM statement")
    assert (found.state, found.done, found.result["closed"]) == ("done", found.expected, closed)
    assert closed > 0
    cost = await database.fetchval("SELECT sum(cost_pico)::text FROM statement")
    assert found.result["cost_pico"] == cost


async def test_what_runs_when_the_program_ends_is_stopped(database: Pool) -> None:
    """On record before the database is closed, which waits for nothing of it then."""

    async def job(progress: Progress) -> None:
        progress.to(1, 9)
        await asyncio.Event().wait()

    await work.start(database, "closing", {}, job)
    await asyncio.sleep(0)
    await work.stop()
    (found,) = await work.newest(database, 9)
    assert (found.state, found.done) == ("stopped", 1)


async def test_what_fails_beside_somebody_ends_there(database: Pool) -> None:
    """On record, and nowhere else."""

    async def job(_progress: Progress) -> None:
        raise ZeroDivisionError

    await work.start(database, "closing", {}, job)
    assert (await ended(database)).state == "failed"
