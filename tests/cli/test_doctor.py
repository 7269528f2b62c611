"""`doctor` only looks: whatever the state of things, it makes, moves and binds nothing, and says one sentence each."""

import asyncio
import fcntl
import json
import os
from pathlib import Path

import asyncpg
import pytest

from luntrex_proxy.store import pepper
from luntrex_proxy.store.embedded import EmbeddedPostgres
from tests.cli.test_database_verbs import Program

AWAY = "postgresql://u:hunter2@127.0.0.1:1/db"


def tree(root: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Names, kinds, modes, owners and contents of all there is; what PostgreSQL keeps in its data is its own affair."""
    found = {}
    for place in sorted([root, *root.rglob("*")]):
        if "postgres" in place.relative_to(root).parent.parts:
            continue
        status, is_read = place.lstat(), place.is_file() and place.suffix != ".log"
        found[str(place.relative_to(root))] = (
            status.st_mode, status.st_uid, status.st_gid, place.read_bytes() if is_read else b"",
        )  # fmt: skip
    return found


def doctor(program: Program, status: int) -> dict[str, dict[str, str]]:
    """What it finds, by name."""
    done = program.run("doctor", "--json", status=status)
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    return {finding["what"]: finding for finding in json.loads(done.stdout)}


@pytest.mark.parametrize("place", ["missing", "empty", "read-only"])
@pytest.mark.parametrize("url", [None, AWAY])
def test_nothing_is_made_where_nothing_is(tmp_path: Path, place: str, url: str | None) -> None:
    """No database, no directory, no file comes of a look, and what is missing is said."""
    state = tmp_path / "state"
    if place != "missing":
        state.mkdir(mode=0o500 if place == "read-only" else 0o700)
    before = tree(tmp_path)
    program = Program(state)
    program.environment["HOME"] = str(tmp_path)
    if url is not None:
        program.environment["LUNTREX_DATABASE__URL"] = url
    found = doctor(program, 0 if url is None else 1)
    assert tree(tmp_path) == before
    assert found["database"]["level"] == ("note" if url is None else "bad")
    assert ("none yet" if url is None else "cannot be reached") in found["database"]["text"]


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A state directory with a database, a pepper and a key, and no daemon."""
    program = Program(tmp_path_factory.mktemp("used") / "state")
    program.run("accounts", "create", "acme")
    program.run("keys", "create", "--account", "acme", "--name", "main")
    return program


def test_a_database_that_is_there_is_left_as_it_was(used: Program) -> None:
    """Without a daemon it is started for the look and stopped again."""
    before = tree(used.state)
    found = doctor(used, 0)
    assert (found["pepper"]["level"], found["keys"]["text"]) == ("good", "1 live")
    assert tree(used.state) == before


def doctor_says(program: Program, what: str) -> list[str]:
    """All findings of this name."""
    done = program.run("doctor", "--json")
    return [finding["text"] for finding in json.loads(done.stdout) if finding["what"] == what]


def test_plain_files_are_told_whatever_is_set(used: Program) -> None:
    """The pepper is a plain file: the sentence of the policy that does not hold so is named, each file with it."""
    told = [text for text in doctor_says(used, "privacy policy") if "plain files" in text]
    assert len(told) == 1
    assert told[0].startswith('"Secrets at rest are protected by our cloud provider KMS." does not hold: pepper')
    (used.state / "audit.key").touch(0o600)
    try:
        [text] = [text for text in doctor_says(used, "privacy policy") if "plain files" in text]
    finally:
        (used.state / "audit.key").unlink()
    assert f"pepper, audit.key in {used.state} are plain files" in text


def test_what_a_killed_check_has_left_is_told(used: Program) -> None:
    """Nothing of it is removed by a look; one that runs is none of its business."""
    path = used.state / "privacy-check.lock"
    assert doctor_says(used, "privacy-check") == []
    path.write_text('{"account_hash":"","directory":"/tmp/lx-check-x"}')
    try:
        before = tree(used.state)
        assert "was killed" in doctor_says(used, "privacy-check")[0]
        assert tree(used.state) == before
        with path.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            assert doctor_says(used, "privacy-check") == []
    finally:
        path.unlink()


def test_beside_a_daemon(used: Program) -> None:
    """The daemon's server is asked; nothing of its directory is touched."""
    server = EmbeddedPostgres(used.state)
    server.start()
    try:
        before = tree(used.state)
        assert doctor(used, 0)["keys"]["text"] == "1 live"
        assert tree(used.state) == before
    finally:
        server.stop()


@pytest.mark.parametrize("state", ["missing", "another", "swap cut short", "the old one", "not private"])
def test_peppers_are_only_looked_at(used: Program, state: str) -> None:
    """A pepper that is missing is not made, a rotation that was cut short is not gone on with, and both are said."""
    present, new = used.state / "pepper", used.state / "pepper.new"
    kept = present.read_bytes()
    level, text = "bad", ""
    try:
        if state == "missing":
            present.unlink()
            text = "is missing, and the keys in this database work with no other"
        elif state == "another":
            present.write_bytes(os.urandom(32))
            text = "were made with another pepper"
        elif state == "not private":
            present.chmod(0o644)
            text = "can be read by others"
        elif state == "swap cut short":
            present.rename(new)
            present.write_bytes(os.urandom(32))
            present.chmod(0o600)
            level, text = "good", "fits the database"
        else:
            text, level = "is the one before", "note"
            used.run("secrets", "rotate", "pepper")
            (used.state / "pepper.old").replace(present)
        before = tree(used.state)
        found = doctor(used, int(level == "bad"))
        assert tree(used.state) == before
        assert found["pepper"]["level"] == level
        assert text in found["pepper"]["text"]
    finally:
        new.unlink(missing_ok=True)
        present.write_bytes(kept)
        present.chmod(0o600)


def test_a_database_without_a_pepper_is_not_bound_to_one(tmp_path: Path) -> None:
    """A migrated database that no process has used yet: its first user's pepper binds it, not a look."""
    program = Program(tmp_path / "state")
    program.run("db", "migrate")
    before = tree(program.state)
    assert doctor(program, 0)["pepper"]["text"] == "none yet; the first start or key makes it"
    assert tree(program.state) == before
    pepper.load_pepper(program.state)  # one that is there already is not bound either
    assert doctor(program, 0)["pepper"]["level"] == "note"
    server = EmbeddedPostgres(program.state)
    try:
        dsn = server.start()
        assert asyncio.run(_fingerprint(dsn)) is None
    finally:
        server.stop()


async def _fingerprint(dsn: str) -> bytes | None:
    connection = await asyncpg.connect(dsn)
    try:
        found: bytes | None = await connection.fetchval("SELECT pepper_fingerprint FROM installation")
    finally:
        await connection.close()
    return found
