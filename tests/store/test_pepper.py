"""The pepper: made once, kept private, tied to its database."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.pepper import fingerprint, load_pepper, open_lookup


def test_made_once_and_private(tmp_path: Path) -> None:
    """The first use makes 32 random bytes only the owner can read; the next ones read them."""
    first = load_pepper(tmp_path / "a")
    assert len(first) == 32
    assert (tmp_path / "a" / "pepper").stat().st_mode & 0o777 == 0o600
    assert load_pepper(tmp_path / "a") == first
    assert load_pepper(tmp_path / "b") != first
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["pepper"]


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    """Several processes make the file at once: all end with the same pepper."""
    code = "import sys; from pathlib import Path; from luntrex_proxy.store.pepper import load_pepper; "
    code += "print(load_pepper(Path(sys.argv[1])).hex())"
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE) for _ in range(4)]
    assert len({process.communicate()[0] for process in started}) == 1


@pytest.mark.parametrize(
    ("mode", "content", "sentence"),
    [
        (0o644, bytes(32), "can be read by others; .*chmod 600"),
        (0o660, bytes(32), "can be read by others"),
        (0o600, bytes(31), "does not hold exactly 32 bytes; restore"),
        (0o600, bytes(33), "does not hold exactly 32 bytes"),
        (0o600, b"", "does not hold exactly 32 bytes"),
    ],
)
def test_wrong_file_is_refused(tmp_path: Path, mode: int, content: bytes, sentence: str) -> None:
    """A file others could read, or not whole, is refused with what to do; it is never replaced."""
    path = tmp_path / "pepper"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(StoreError, match=sentence):
        load_pepper(tmp_path)
    assert path.read_bytes() == content


def test_link_is_refused(tmp_path: Path) -> None:
    """A link in the pepper's place is not followed."""
    (tmp_path / "real").write_bytes(bytes(32))
    (tmp_path / "pepper").symlink_to(tmp_path / "real")
    with pytest.raises(StoreError, match="cannot be read"):
        load_pepper(tmp_path)


async def test_bound_to_the_database(database: Pool) -> None:
    """The first pepper marks the database; it gives the same lookup key again, another one is refused."""
    pepper = os.urandom(32)
    first = await open_lookup(database, pepper)
    again = await open_lookup(database, pepper)
    assert first == again
    assert len(first.key) == 32
    stored = await database.fetchval("SELECT pepper_fingerprint FROM installation")
    assert stored == first.fingerprint == fingerprint(pepper)
    assert pepper not in (first.key, stored)
    assert first.key.hex() not in repr(first)
    with pytest.raises(StoreError, match="made with another pepper; put the `pepper` file"):
        await open_lookup(database, os.urandom(32))


async def test_lost_file_is_said_and_not_replaced(database: Pool, tmp_path: Path) -> None:
    """The database knows a pepper and the file is gone: the sentence says so, and no fresh file hides the loss."""
    pepper = load_pepper(tmp_path)
    bound = await open_lookup(database, pepper)
    (tmp_path / "pepper").unlink()
    for _ in range(2):
        with pytest.raises(StoreError, match=f"The pepper file {tmp_path}/pepper is missing, .*restore it"):
            await open_lookup(database, load_pepper(tmp_path))
        assert list(tmp_path.iterdir()) == []
    (tmp_path / "pepper").write_bytes(os.urandom(32))
    (tmp_path / "pepper").chmod(0o600)
    with pytest.raises(StoreError, match="made with another pepper"):
        await open_lookup(database, load_pepper(tmp_path))
    (tmp_path / "pepper").write_bytes(pepper)
    assert await open_lookup(database, load_pepper(tmp_path)) == bound


async def test_same_pepper_in_another_installation(database: Pool) -> None:
    """The lookup key depends on the installation as well: one database's hashes say nothing in another."""
    pepper = os.urandom(32)
    first = await open_lookup(database, pepper)
    await database.execute("UPDATE installation SET installation_id = gen_random_uuid()")
    assert (await open_lookup(database, pepper)).key != first.key


async def test_loop_runs_on_while_the_key_is_derived(database: Pool) -> None:
    """The quarter second of derivation happens in a thread."""
    deriving = asyncio.create_task(open_lookup(database, os.urandom(32)))
    ticks = 0
    while not deriving.done():
        await asyncio.sleep(0.01)
        ticks += 1
    await deriving
    assert ticks >= 5
