"""Secrets at rest: unreadable without the wrapping key, bound to their place, and keys rotated under use and death."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.settings.sealing import Sealing
from luntrex_proxy.store import sealedsecrets, sealing, wrappings
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.rotation import alone
from luntrex_proxy.store.sealedsecrets import SecretBook
from luntrex_proxy.store.sealing import Place, Sealer, add_data_key, open_sealer
from luntrex_proxy.store.wrapping import KeyFile, UnwrapError, load_key_file, local_wrapping
from luntrex_proxy.store.wrappings import Wrappings

PLAIN = "sk-canary-91f27c"
HERE = Place("secret", "openai", "sealed")
KEY = bytes(range(32))


def here(pool: Pool, state_directory: Path) -> Wrappings:
    """What an installation with no setting has."""
    return Wrappings(pool, state_directory, Sealing())


@given(st.text(max_size=200), st.integers(0, 500), st.integers(1, 255))
def test_any_change_of_a_sealed_value_is_noticed(plain: str, at: int, flip: int) -> None:
    """What was sealed opens; with any byte changed, or cut anywhere, it is refused and nothing of it is said."""
    sealer = Sealer({1: KEY})
    sealed = sealer.seal(HERE, plain)
    assert sealer.open(HERE, sealed) == plain
    changed = bytearray(sealed)
    changed[at % len(sealed)] ^= flip
    for bad in (bytes(changed), sealed[: at % len(sealed)], b"", sealed + b"x"):
        with pytest.raises(StoreError, match="cannot be opened"):
            sealer.open(HERE, bad)


def test_a_value_opens_at_its_place_alone() -> None:
    """Copied to another row, column or table it does not open; the same text sealed twice looks different."""
    sealer = Sealer({1: KEY})
    sealed = sealer.seal(HERE, PLAIN)
    assert sealed != sealer.seal(HERE, PLAIN)
    assert PLAIN.encode() not in sealed
    for other in (HERE._replace(row="anthropic"), HERE._replace(column="x"), HERE._replace(table="account")):
        with pytest.raises(StoreError) as refused:
            sealer.open(other, sealed)
        assert PLAIN not in str(refused.value)
    with pytest.raises(StoreError):
        Sealer({2: KEY}).open(HERE, sealed)


async def test_nothing_in_the_database_opens_without_the_wrapping_key(database: Pool, tmp_path: Path) -> None:
    """Set, listed, opened with the key; a dump holds neither secret nor data key, and another key is refused."""
    wrapping = local_wrapping(tmp_path)
    sealer = await open_sealer(database, wrapping)
    await sealedsecrets.put(database, sealer, "openai", PLAIN)
    assert await sealedsecrets.values(database, sealer) == {"openai": PLAIN}
    assert await sealedsecrets.values(database, await open_sealer(database, local_wrapping(tmp_path))) == {
        "openai": PLAIN
    }
    (info,) = await sealedsecrets.list_all(database)
    assert (info.name, PLAIN in str(info)) == ("openai", False)
    for table in ("secret", "data_key", "audit_entry", "audit_personal"):
        dump = str([dict(row) for row in await database.fetch(f"SELECT * FROM {table}")])
        assert PLAIN not in dump
        assert (tmp_path / "wrapping.key").read_bytes().hex() not in dump
    with pytest.raises(StoreError, match=r"are sealed under the wrapping key file:[0-9a-f]{16}, and here is file:"):
        await open_sealer(database, KeyFile(os.urandom(32)))
    await database.execute("UPDATE data_key SET wrapped = wrapped || '\\x00'")
    with pytest.raises(UnwrapError, match="A data key in the database was changed"):
        await open_sealer(database, wrapping)


async def test_bad_secrets_are_refused(database: Pool, tmp_path: Path) -> None:
    """Names and sizes; the value is in no sentence."""
    sealer = await open_sealer(database, local_wrapping(tmp_path))
    for name, value in (("bad name", PLAIN), ("", PLAIN), ("a", ""), ("a", PLAIN * 10_000)):
        with pytest.raises(RefusedError) as refused:
            await sealedsecrets.put(database, sealer, name, value)
        assert PLAIN not in str(refused.value)
    with pytest.raises(RefusedError, match="There is no secret of this name"):
        await sealedsecrets.remove(database, "openai")
    assert await sealedsecrets.list_all(database) == []


async def test_the_data_key_is_rotated_under_use(database: Pool, tmp_path: Path) -> None:
    """Every secret sealed anew, the old key gone; a running reader follows, a writer that was late is refused."""
    wrapping = local_wrapping(tmp_path)
    old = await open_sealer(database, wrapping)
    for name in ("a", "b"):
        await sealedsecrets.put(database, old, name, PLAIN + name)
    book = SecretBook(database, here(database, tmp_path))
    assert await book.refresh()
    before = await database.fetchval("SELECT sealed FROM secret WHERE name = 'a'")
    await add_data_key(database, wrapping)
    new = await open_sealer(database, wrapping)
    assert await sealedsecrets.seal_anew(database, new) == 2
    assert await database.fetchval("SELECT count(*) FROM data_key") == 1
    assert await sealedsecrets.values(database, new) == {"a": PLAIN + "a", "b": PLAIN + "b"}
    assert not await book.refresh(), "the values are the same"
    assert book.values == {"a": PLAIN + "a", "b": PLAIN + "b"}
    with pytest.raises(RefusedError, match="The data key was rotated just now; set the secret again"):
        await sealedsecrets.put(database, old, "c", PLAIN)
    with pytest.raises(StoreError):
        old.open(Place("secret", "a", "sealed"), await database.fetchval("SELECT sealed FROM secret WHERE name = 'a'"))
    assert new.newest != old.newest
    assert before != await database.fetchval("SELECT sealed FROM secret WHERE name = 'a'")


async def test_two_rotations_at_once_lose_nothing(database: Pool, tmp_path: Path) -> None:
    """One at a time, of whatever key; who comes with a data key that is not the newest drops none."""
    wrapping = local_wrapping(tmp_path)
    await sealedsecrets.put(database, await open_sealer(database, wrapping), "a", PLAIN)
    await add_data_key(database, wrapping)
    first = await open_sealer(database, wrapping)
    await add_data_key(database, wrapping)
    second = await open_sealer(database, wrapping)
    with pytest.raises(RefusedError, match="rotated by somebody else"):
        await sealedsecrets.seal_anew(database, first)
    assert await sealedsecrets.seal_anew(database, second) == 1
    async with alone(database):
        for rotated in (
            here(database, tmp_path).rotate(),
            sealedsecrets.rotate_data_key(database, here(database, tmp_path)),
        ):
            with pytest.raises(RefusedError, match="Another `secrets rotate` is running"):
                await rotated
    assert await sealedsecrets.rotate_data_key(database, here(database, tmp_path)) == 1
    assert await sealedsecrets.values(database, await open_sealer(database, wrapping)) == {"a": PLAIN}


@pytest.mark.parametrize("death", ["local_wrapping", "rewrap", "replace", "none"])
async def test_the_wrapping_key_is_rotated_whatever_dies(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, death: str
) -> None:
    """After a death at any step the next who opens finds the right file; the old key opens nothing any more."""
    sealer = await open_sealer(database, local_wrapping(tmp_path))
    await sealedsecrets.put(database, sealer, "a", PLAIN)
    old = load_key_file(tmp_path / "wrapping.key")

    class DeathError(Exception):
        pass

    async def die(*_: object) -> None:
        raise DeathError

    def die_now(*_: object) -> None:
        raise DeathError

    with monkeypatch.context() as patch:
        match death:
            case "local_wrapping":
                patch.setattr(wrappings, death, die_now)
            case "rewrap":
                patch.setattr(sealing, death, die)
            case "replace":
                patch.setattr(Path, death, die_now)
        if death == "none":
            assert await here(database, tmp_path).rotate() == 1
        else:
            with pytest.raises(DeathError):
                await here(database, tmp_path).rotate()
    book = SecretBook(database, here(database, tmp_path))
    assert await book.refresh()
    assert book.values == {"a": PLAIN}
    moved = death in ("replace", "none")
    assert (load_key_file(tmp_path / "wrapping.key").name != old.name) == moved
    if moved:
        with pytest.raises(StoreError, match="are sealed under the wrapping key"):
            await open_sealer(database, old)
    assert await here(database, tmp_path).rotate() == 1
    assert await SecretBook(database, here(database, tmp_path)).refresh()
    assert [path.name for path in tmp_path.iterdir()] == ["wrapping.key"]


async def test_a_key_file_of_others_wraps_and_is_theirs_to_replace(database: Pool, tmp_path: Path) -> None:
    """A systemd credential: used where it lies, no file is made beside it; no other hides a lost one."""
    file = tmp_path / "credential"
    file.write_bytes(KEY)
    file.chmod(0o400)
    state = tmp_path / "state"
    state.mkdir()
    theirs = Wrappings(database, state, Sealing(key_file=file))
    await sealedsecrets.put(database, await open_sealer(database, theirs), "a", PLAIN)
    assert await database.fetchval("SELECT wrapped_by FROM data_key") == KeyFile(KEY).name
    with pytest.raises(RefusedError, match="whoever keeps that file has to replace it"):
        await theirs.rotate()
    with pytest.raises(StoreError, match=r"are sealed under the wrapping key file:\w+, and there is none at"):
        await open_sealer(database, here(database, state))
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "content", "sentence"),
    [
        (0o644, bytes(32), "can be read by others"),
        (0o600, bytes(31), "exactly 32 bytes"),
        (0o600, bytes(33), "exactly 32"),
    ],
)
def test_a_wrong_key_file_is_refused(tmp_path: Path, mode: int, content: bytes, sentence: str) -> None:
    """Not private or not whole: a sentence, and it is never replaced."""
    path = tmp_path / "wrapping.key"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(StoreError, match=sentence):
        local_wrapping(tmp_path)
    assert path.read_bytes() == content
    with pytest.raises(StoreError, match="cannot be used"):
        load_key_file(tmp_path / "none")
