"""What a check has left that was killed: found by who comes next, removed whole; one that runs is let alone."""

import asyncio
import os
from pathlib import Path

import pytest

from luntrex_proxy.store import accounts, apikeys, checkjournal
from luntrex_proxy.store.checkjournal import CheckJournal, Made
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from tests.postgres import LOOKUP

NAME = "privacy-check-zp0123456789abaccountzp0123456789ab"


async def leave(pool: Pool, state: Path, directory: Path) -> None:
    """What a check has made when it is killed."""
    journal = await CheckJournal.open(state)
    journal.note(Made.of(NAME, directory))
    (directory / "state").mkdir(parents=True)
    (directory / "state" / "pepper").write_bytes(b"p")
    await accounts.create(pool, NAME)
    await apikeys.create(pool, LOOKUP, NAME, "check", bcrypt_cost=4)
    journal.close()


async def test_whatever_was_made_is_removed(database: Pool, tmp_path: Path) -> None:
    """Account, keys, directory; nobody else's; once. The account's name is not in the file."""
    state, directory = tmp_path / "state", tmp_path / "lx-check-1"
    state.mkdir()
    await accounts.create(database, "privacy-check-of-mine")
    await leave(database, state, directory)
    assert NAME not in (state / checkjournal.FILE).read_text()
    assert checkjournal.has_leftovers(state)
    assert await checkjournal.remove_leftovers(database, state)
    assert [account.name for account in await accounts.list_all(database)] == ["privacy-check-of-mine"]
    assert await database.fetchval("SELECT count(*) FROM api_key") == 0
    assert not directory.exists()
    assert not checkjournal.has_leftovers(state)
    assert not await checkjournal.remove_leftovers(database, state)


async def test_one_that_runs_is_let_alone(database: Pool, tmp_path: Path) -> None:
    """Until it and whoever has inherited its lock are gone; two at once are refused."""
    directory = tmp_path / "lx-check-1"
    journal = await CheckJournal.open(tmp_path)
    journal.note(Made.of(NAME, directory))
    await accounts.create(database, NAME)
    inherited = os.dup(journal.descriptor)
    for _ in range(2):
        assert not checkjournal.has_leftovers(tmp_path)
        assert not await checkjournal.remove_leftovers(database, tmp_path)
        with pytest.raises(RefusedError, match="Another privacy-check"):
            await CheckJournal.open(tmp_path, 0)
        if journal.descriptor >= 0:
            journal.close()
            journal.descriptor = -1
    asyncio.get_running_loop().call_later(0.1, os.close, inherited)
    following = await CheckJournal.open(tmp_path)
    assert await following.remove_leftovers(database)
    following.close()
    assert await accounts.list_all(database) == []


async def test_only_a_checks_own_directory_is_deleted(database: Pool, tmp_path: Path) -> None:
    """A file that says otherwise is not believed; one cut short says nothing."""
    for text in (f'{{"account_hash":"x","directory":"{tmp_path / "mine"}"}}', '{"account_'):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / checkjournal.FILE).write_text(text)
        await checkjournal.remove_leftovers(database, tmp_path)
        assert (tmp_path / "mine").exists()
        assert not checkjournal.has_leftovers(tmp_path)


async def test_a_directory_that_a_daemon_cannot_see_is_left_to_the_next_check(database: Pool, tmp_path: Path) -> None:
    """A service has a /tmp of its own: it removes what is in the tables, once, and does not say that all is gone."""
    directory, elsewhere = tmp_path / "lx-check-1", tmp_path / "elsewhere"
    await leave(database, tmp_path, directory)
    directory.rename(elsewhere)
    assert await checkjournal.remove_leftovers(database, tmp_path)
    assert await accounts.list_all(database) == []
    version = await database.fetchval("SELECT version FROM change_version")
    assert not await checkjournal.remove_leftovers(database, tmp_path), "nothing more to do there"
    assert await database.fetchval("SELECT version FROM change_version") == version
    assert checkjournal.has_leftovers(tmp_path)
    elsewhere.rename(directory)
    journal = await CheckJournal.open(tmp_path)
    assert await journal.remove_leftovers(database)
    journal.close()
    assert not directory.exists()
    assert not checkjournal.has_leftovers(tmp_path)
