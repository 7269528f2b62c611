"""The pepper replaced: no key stops working at any step, also when a step is cut short; and a lost one survived."""

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from luntrex_proxy.control import signin
from luntrex_proxy.control.services import Services
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import rotation
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.following import follow
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.pepper import Lookup, lookup_of, read_pepper
from luntrex_proxy.store.proving import Prover
from luntrex_proxy.store.upkeep import KeyUpkeep
from tests.people import PASSWORD, give_password, make_person
from tests.store.keys import HERE, catch_up, find, loaded, make


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_whole_rotation(acme: Pool, tmp_path: Path) -> None:
    """Begin, use, finish: two files meanwhile, one afterwards, and the key works in each state of each process."""
    before = await lookup_of(acme, tmp_path)
    first = (tmp_path / "pepper").read_bytes()
    made, idle = await make(acme, "used", before), await make(acme, "idle", before)
    old_ring = await loaded(acme, before)
    state = await rotation.rotate(acme, tmp_path)
    assert (state.rotating, state.live_keys, state.present_keys, state.old_keys) == (True, 2, 0, 2)
    assert names(tmp_path) == ["pepper", "pepper.old"]
    assert (tmp_path / "pepper.old").read_bytes() == first != (tmp_path / "pepper").read_bytes()
    assert (tmp_path / "pepper").stat().st_mode & 0o777 == 0o600
    with pytest.raises(RefusedError, match=r"A rotation is under way; .*--finish"):
        await rotation.rotate(acme, tmp_path)

    both = await lookup_of(acme, tmp_path)
    assert both.is_present
    assert both.old == before
    ring = await loaded(acme, both)
    assert find(ring, made) is not None
    await KeyUpkeep(ring, acme).write_renewed()
    await catch_up(old_ring, acme)
    assert find(old_ring, made) is not None
    assert find(old_ring, idle) is not None
    with pytest.raises(RefusedError, match="1 of 2 keys were not used since the rotation; wait, or give --force"):
        await rotation.finish(acme, tmp_path)
    state = await rotation.finish(acme, tmp_path, force=True)
    assert (state.rotating, state.present_keys, state.unproven_keys) == (False, 1, 1)
    assert names(tmp_path) == ["pepper"]
    await catch_up(ring, acme)
    assert find(ring, made) is not None
    assert await Prover(ring, lambda: acme).prove(idle.key.encode(), HERE) is not None
    with pytest.raises(RefusedError, match="No rotation is under way"):
        await rotation.finish(acme, tmp_path)


@pytest.mark.parametrize("broken", ["write_secret", "swap", "hardlink", "replace"])
async def test_cut_short_at_any_step(acme: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """After a death in the middle, each later start finds its peppers, and a second try goes on."""
    made = await make(acme, lookup=await lookup_of(acme, tmp_path))

    class DeathError(Exception):
        pass

    def die(*_: object) -> None:
        raise DeathError

    with monkeypatch.context() as patch:
        if broken in ("write_secret", "swap"):
            patch.setattr(rotation, broken, die)
        else:
            patch.setattr(Path, {"hardlink": "hardlink_to", "replace": "replace"}[broken], die)
        with pytest.raises(DeathError):
            await rotation.rotate(acme, tmp_path)
    for _ in range(2):
        assert find(await loaded(acme, await lookup_of(acme, tmp_path)), made) is not None
    state = await rotation.state_of(acme)
    if state.rotating:
        assert names(tmp_path) == ["pepper", "pepper.old"]
    else:
        assert broken == "write_secret"
        await rotation.rotate(acme, tmp_path)
    lookup = await lookup_of(acme, tmp_path)
    assert lookup.is_present
    assert lookup.old is not None
    assert find(await loaded(acme, lookup), made) is not None


async def test_another_machine_may_come_later(acme: Pool, tmp_path: Path) -> None:
    """A state directory with the old file alone works on; with both files copied it is at the present one."""
    here, there = tmp_path / "here", tmp_path / "there"
    made = await make(acme, lookup=await lookup_of(acme, here))
    there.mkdir(mode=0o700)
    (there / "pepper").write_bytes((here / "pepper").read_bytes())
    (there / "pepper").chmod(0o600)
    await rotation.rotate(acme, here)
    lagging = await lookup_of(acme, there)
    assert not lagging.is_present
    assert find(await loaded(acme, lagging), made) is not None
    with pytest.raises(
        RefusedError, match=r"Another machine has rotated the pepper; copy its `pepper` and `pepper\.old`"
    ):
        await rotation.rotate(acme, there)
    for name in ("pepper", "pepper.old"):
        (there / name).write_bytes((here / name).read_bytes())
        (there / name).chmod(0o600)
    assert await lookup_of(acme, there) == await lookup_of(acme, here)


@contextlib.asynccontextmanager
async def following(pool: Pool, ring: KeyRing, dsn: str) -> object:
    """A running process as the database sees it."""
    task = asyncio.create_task(follow(ring, dsn))
    while not await pool.fetchval("SELECT true FROM pg_stat_activity WHERE starts_with(application_name, $1)", NAME):
        await asyncio.sleep(0.02)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


NAME = rotation.FOLLOWER


async def test_a_running_process_without_the_new_pepper_holds_the_end_back(
    acme: Pool, database_dsn: str, tmp_path: Path
) -> None:
    """`--finish` would take its keys from it: it says how many processes there are."""
    ring = await loaded(acme, await lookup_of(acme, tmp_path))
    await rotation.rotate(acme, tmp_path)
    async with following(acme, ring, database_dsn):
        async with asyncio.timeout(10):  # it says what it has once it is connected
            while (await rotation.state_of(acme)).lagging_processes != 1:
                await asyncio.sleep(0.02)
        with pytest.raises(RefusedError, match="1 running processes do not have the new pepper; copy"):
            await rotation.finish(acme, tmp_path)
    modern = await loaded(acme, await lookup_of(acme, tmp_path))
    async with following(acme, modern, database_dsn):
        assert (await rotation.state_of(acme)).lagging_processes == 0
        assert not (await rotation.finish(acme, tmp_path)).rotating


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(os.urandom(32)), lambda p: p.write_bytes(b"x")]
)
async def test_lost_for_good(acme: Pool, tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    """No file fits: a new pepper, every key proven by bcrypt; an unfit file is kept under another name."""
    made = await make(acme, lookup=await lookup_of(acme, tmp_path))
    with pytest.raises(RefusedError, match="fits this database; the pepper is not lost"):
        await rotation.lose(acme, tmp_path)
    spoil(tmp_path / "pepper")
    kept = (tmp_path / "pepper").exists()
    with pytest.raises(StoreError):
        await lookup_of(acme, tmp_path)
    state = await rotation.lose(acme, tmp_path)
    assert (state.rotating, state.unproven_keys) == (False, 1)
    assert len([name for name in names(tmp_path) if name.startswith("pepper.unfit-")]) == kept
    lookup = await lookup_of(acme, tmp_path)
    ring = await loaded(acme, lookup)
    assert set(ring.unproven) == {made.info.key_id}
    assert await Prover(ring, lambda: acme).prove(made.key.encode(), HERE) is not None
    fresh = await make(acme, "fresh", lookup)
    assert find(await loaded(acme, lookup), fresh) is not None


async def test_not_lost_while_a_process_has_it(acme: Pool, database_dsn: str, tmp_path: Path) -> None:
    """A daemon that still runs with the pepper has its file somewhere."""
    ring = await loaded(acme, await lookup_of(acme, tmp_path))
    (tmp_path / "pepper").unlink()
    async with following(acme, ring, database_dsn):
        with pytest.raises(RefusedError, match="1 running processes have the pepper; copy"):
            await rotation.lose(acme, tmp_path)


async def test_the_present_one_lost_in_a_rotation(acme: Pool, tmp_path: Path) -> None:
    """The old one still fits: keys that did not move go on by it, the others are proven."""
    made, moved = [await make(acme, name, await lookup_of(acme, tmp_path)) for name in ("made", "moved")]
    await rotation.rotate(acme, tmp_path)
    ring = await loaded(acme, await lookup_of(acme, tmp_path))
    assert find(ring, moved)
    await KeyUpkeep(ring, acme).write_renewed()
    (tmp_path / "pepper").unlink()
    state = await rotation.lose(acme, tmp_path)
    assert (state.rotating, state.unproven_keys) == (True, 0)
    ring = await loaded(acme, await lookup_of(acme, tmp_path))
    assert find(ring, made) is not None
    assert find(ring, moved) is not None


async def test_one_rotation_at_a_time(acme: Pool, tmp_path: Path) -> None:
    """Two at once, on whatever machines: one goes through, one is told; the file fits afterwards."""
    await lookup_of(acme, tmp_path)
    got = await asyncio.gather(rotation.rotate(acme, tmp_path), rotation.rotate(acme, tmp_path), return_exceptions=True)
    assert sum(isinstance(one, RefusedError) for one in got) == 1
    assert (await lookup_of(acme, tmp_path)).old is not None


async def test_a_database_without_a_pepper_has_none_to_lose(acme: Pool, tmp_path: Path) -> None:
    """And nothing is made of it."""
    with pytest.raises(RefusedError, match="no pepper yet"):
        await rotation.lose(acme, tmp_path)
    assert names(tmp_path) == []


def test_speed_is_measured_here() -> None:
    """Keys per second of this machine's bcrypt at the cost keys have."""
    assert 1 < rotation.keys_per_second() < 1000


def test_read_pepper_says_what_is_wrong(tmp_path: Path) -> None:
    """A file that is not there is a sentence too."""
    with pytest.raises(StoreError, match="cannot be read"):
        read_pepper(tmp_path / "none")


async def test_who_comes_between_does_not_destroy_the_old_pepper(
    acme: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process swaps the files as soon as it can: the rotator's own swap is harmless."""
    first = (await lookup_of(acme, tmp_path)).fingerprint
    real = rotation.swap

    def both(directory: Path, wanted: bytes) -> None:
        real(directory, wanted)  # the other process
        real(directory, wanted)

    monkeypatch.setattr(rotation, "swap", both)
    await rotation.rotate(acme, tmp_path)
    lookup = await lookup_of(acme, tmp_path)
    assert lookup.is_present
    assert lookup.old is not None
    assert lookup.old.fingerprint == first
    assert names(tmp_path) == ["pepper", "pepper.old"]


async def test_a_pepper_that_is_only_not_private_is_not_lost(acme: Pool, tmp_path: Path) -> None:
    """The sentence says what to do; the file stays where it is."""
    await lookup_of(acme, tmp_path)
    (tmp_path / "pepper").chmod(0o644)
    with pytest.raises(StoreError, match="chmod 600"):
        await rotation.lose(acme, tmp_path)
    assert names(tmp_path) == ["pepper"]


async def test_only_who_has_the_new_pepper_finishes(acme: Pool, tmp_path: Path) -> None:
    """A machine with the old file alone would lock itself out."""
    here, there = tmp_path / "here", tmp_path / "there"
    await lookup_of(acme, here)
    there.mkdir(mode=0o700)
    (there / "pepper").write_bytes((here / "pepper").read_bytes())
    (there / "pepper").chmod(0o600)
    await rotation.rotate(acme, here)
    with pytest.raises(RefusedError, match="has only the old pepper"):
        await rotation.finish(acme, there, force=True)


async def test_a_rotation_waits_for_passwords(database: Pool, tmp_path: Path) -> None:
    """The old pepper stays until everybody has signed in, or somebody decides otherwise; then they are counted."""
    before = await lookup_of(database, tmp_path)
    services = services_with(database, tmp_path, before)
    for address in ("ada@example.org", "eve@example.org"):
        await give_password(services, await make_person(database, address))
    await rotation.rotate(database, tmp_path)
    services = services_with(database, tmp_path, await lookup_of(database, tmp_path))
    await signin.sign_in(services, "ada@example.org", PASSWORD, "local")
    state = await rotation.state_of(database)
    assert (state.old_passwords, state.lost_passwords) == (1, 0)
    with pytest.raises(RefusedError, match="1 people did not sign in since the rotation"):
        await rotation.finish(database, tmp_path)
    await signin.sign_in(services, "eve@example.org", PASSWORD, "local")
    assert (await rotation.finish(database, tmp_path)).lost_passwords == 0
    (tmp_path / "pepper").unlink()
    assert (await rotation.lose(database, tmp_path)).lost_passwords == 2


def services_with(pool: Pool, directory: Path, lookup: Lookup) -> Services:
    return Services(Settings(), pool, lookup, directory, key_bcrypt_cost=4, password_bcrypt_cost=4)
