"""The pepper and audit.key sealed by a wrapping key that lies elsewhere: made so, or later, rotated, undone, lost."""

import datetime
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from luntrex_proxy.settings.sealing import Sealing
from luntrex_proxy.store import pepper, rotation, sealedfile, secretfiles
from luntrex_proxy.store.anchors import AnchorKey, append_anchor, own_public_key, read_anchors
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.pepper import lookup_of
from luntrex_proxy.store.wrapping import WrappingUnavailableError
from luntrex_proxy.store.wrappings import Wrappings
from tests.kms import FrontedKms, aws_environment, running_moto
from tests.store.test_kms import setting
from tests.upstreams.loop_thread import LoopThread

NOW = datetime.datetime(2026, 11, 30, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def servers() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.stop()


@pytest.fixture(scope="module")
def moto() -> Iterator[int]:
    with aws_environment(), running_moto() as port:
        yield port


@pytest.fixture
def kms(servers: LoopThread, moto: int) -> Iterator[FrontedKms]:
    front = FrontedKms(servers, moto)
    yield front
    front.go_away()


def key_file(directory: Path) -> Sealing:
    """A wrapping key in a file, as systemd gives a credential."""
    path = directory / "credential"
    path.write_bytes(secrets.token_bytes(32))
    path.chmod(0o600)
    return Sealing(key_file=path)


def contents(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.iterdir())


async def test_under_kms_they_are_made_sealed(database: Pool, kms: FrontedKms, tmp_path: Path) -> None:
    """No file has the bytes; the next start opens them; KMS gone ends it with a sentence, and so does another one's."""
    key = kms.new_key()
    wrappings = Wrappings(database, tmp_path, setting(kms, key))
    lookup = await lookup_of(database, tmp_path, wrappings)
    anchor_key = await AnchorKey.open(tmp_path, wrappings)
    assert secretfiles.plain(tmp_path) == []
    secretfiles.require_kms(tmp_path)
    assert secretfiles.sealed_by(tmp_path) == {"pepper": f"kms:{key}", "audit.key": f"kms:{key}"}
    for name in ("pepper", "audit.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    plain = await pepper.opened(tmp_path / "pepper", wrappings)
    assert plain not in contents(tmp_path)
    assert await lookup_of(database, tmp_path, Wrappings(database, tmp_path, setting(kms, key))) == lookup
    assert (await AnchorKey.open(tmp_path, wrappings)).public == anchor_key.public == own_public_key(tmp_path)
    asked = len(kms.asked)
    assert await pepper.is_present_here(database, tmp_path)
    assert len(kms.asked) == asked, "a look needs nobody"
    append_anchor(tmp_path, anchor_key.sign(1, b"h" * 32, NOW))
    assert len(read_anchors(tmp_path / "anchors.jsonl", [own_public_key(tmp_path) or b""])) == 1

    with pytest.raises(StoreError, match=f"pepper is sealed under kms:{key}, and nothing here opens it"):
        await lookup_of(database, tmp_path)
    with pytest.raises(StoreError, match=r"set sealing\.kms\.key_id to it"):
        await lookup_of(database, tmp_path, Wrappings(database, tmp_path, Sealing()))
    kms.go_away()
    with pytest.raises(WrappingUnavailableError, match="cannot be reached; check the network"):
        await lookup_of(database, tmp_path, wrappings)
    kms.come_back()
    await database.execute("UPDATE installation SET installation_id = gen_random_uuid()")
    with pytest.raises(
        StoreError, match=r"pepper was changed, or is of another installation.*restore it from a backup"
    ):
        await lookup_of(database, tmp_path, Wrappings(database, tmp_path, setting(kms, key)))
    assert secretfiles.plain(tmp_path) == [], "no other one was made"


async def test_a_plain_one_is_sealed_and_plain_again(database: Pool, tmp_path: Path) -> None:
    """By a key that lies elsewhere only; keys work as before; doing it twice is right; it is on record."""
    state = tmp_path / "state"
    before = await lookup_of(database, state)
    anchor_key = AnchorKey.load(state)
    plain = [(state / name).read_bytes() for name in ("pepper", "audit.key")]
    assert secretfiles.plain(state) == ["pepper", "audit.key"]
    with pytest.raises(StoreError, match=r"strict, and in .* pepper, audit\.key can be read by whoever has"):
        secretfiles.require_kms(state)
    for beside in (Sealing(), Sealing(key_file=state / "wrapping.key")):
        with pytest.raises(RefusedError, match="would lie beside what it seals"):
            await secretfiles.seal(database, state, Wrappings(database, state, beside))
    wrappings = Wrappings(database, state, key_file(tmp_path))
    for _ in range(2):
        found = await secretfiles.seal(database, state, wrappings)
        assert list(found) == ["pepper", "audit.key"]
        assert not any(secret in contents(state) for secret in plain)
        assert await lookup_of(database, state, wrappings) == before
        assert (await AnchorKey.open(state, wrappings)).public == anchor_key.public
    with pytest.raises(StoreError, match="policy is strict"):  # a key of this machine
        secretfiles.require_kms(state)
    with pytest.raises(StoreError, match="under the wrapping key file:"):
        await lookup_of(database, state, Wrappings(database, state, key_file(tmp_path)))
    shutil.rmtree(state)  # and a key that makes one anew seals none by itself: nothing says that the file is for this
    state.mkdir()
    assert secretfiles.plain(state) == []


async def test_undone_as_it_was(database: Pool, tmp_path: Path) -> None:
    """For an earlier release, which knows plain files only."""
    state = tmp_path / "state"
    before = await lookup_of(database, state)
    plain = (state / "pepper").read_bytes()
    wrappings = Wrappings(database, state, key_file(tmp_path))
    await secretfiles.seal(database, state, wrappings)
    with pytest.raises(RefusedError, match=r"secrets seal --undo"):
        secretfiles.require_plain(state)
    assert await secretfiles.unseal(database, state, wrappings) == ["pepper"]
    secretfiles.require_plain(state)
    assert (state / "pepper").read_bytes() == plain
    assert await lookup_of(database, state) == before
    acts = [row[0] for row in await database.fetch("SELECT act FROM audit_entry ORDER BY sequence")]
    assert acts[-2:] == ["secret_files.sealed", "secret_files.unsealed"]


async def test_the_wrapping_key_is_rotated(database: Pool, kms: FrontedKms, tmp_path: Path) -> None:
    """From a file to KMS and on to another key there: the same pepper; plain files stay plain."""
    state = tmp_path / "state"
    before = await lookup_of(database, state)
    AnchorKey.load(state)
    local = key_file(tmp_path)
    await secretfiles.seal(database, state, Wrappings(database, state, local))
    (state / "audit.key").unlink()
    AnchorKey.load(state)
    for _ in range(2):
        key = kms.new_key()
        both = setting(kms, key).model_copy(update={"key_file": local.key_file})
        wrappings = Wrappings(database, state, both)
        assert await secretfiles.seal(database, state, wrappings, only_again=True) == {"pepper": f"kms:{key}"}
        assert await lookup_of(database, state, wrappings) == before
    assert secretfiles.plain(state) == ["audit.key"]


async def test_a_pepper_is_rotated_sealed_and_lost(database: Pool, tmp_path: Path) -> None:
    """The new one is sealed as the one before, both work, and the way out of a loss is the same."""
    state = tmp_path / "state"
    wrappings = Wrappings(database, state, key_file(tmp_path))
    first = await lookup_of(database, state)
    await secretfiles.seal(database, state, wrappings)
    await rotation.rotate(database, state, wrappings)
    assert list(secretfiles.sealed_by(state)) == ["pepper", "pepper.old"]
    both = await lookup_of(database, state, wrappings)
    assert both.old is not None
    assert (both.old.key, both.old.fingerprint) == (first.key, first.fingerprint)
    await rotation.finish(database, state, wrappings)
    with pytest.raises(RefusedError, match="is not lost; if what seals it is gone for good, move the file away"):
        await rotation.lose(database, state, wrappings)
    (state / "pepper").rename(state / "away")
    await rotation.lose(database, state, wrappings)
    assert (await lookup_of(database, state, wrappings)).fingerprint not in (first.fingerprint, both.fingerprint)


async def test_kms_fails_midway(database: Pool, kms: FrontedKms, tmp_path: Path) -> None:
    """What was sealed is, what was not is as before, everything opens, and doing it again is right."""
    before = await lookup_of(database, tmp_path)
    anchor_key = AnchorKey.load(tmp_path)
    wrappings = Wrappings(database, tmp_path, setting(kms, kms.new_key()))
    kms.fault, kms.answers_left = (500, "KMSInternalException"), 1
    with pytest.raises(WrappingUnavailableError, match="is busy or has a fault; try again"):
        await secretfiles.seal(database, tmp_path, wrappings)
    assert secretfiles.plain(tmp_path) == ["audit.key"]
    kms.fault = None
    for _ in range(2):
        assert await lookup_of(database, tmp_path, wrappings) == before
        assert (await AnchorKey.open(tmp_path, wrappings)).public == anchor_key.public
        await secretfiles.seal(database, tmp_path, wrappings)
    assert secretfiles.plain(tmp_path) == []


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data.replace(b'"by":"file', b'"by":"fold')])
async def test_a_spoilt_file_makes_no_other(database: Pool, tmp_path: Path, spoil: object) -> None:
    """It is refused with what to do, and stays."""
    assert callable(spoil)
    state = tmp_path / "state"
    wrappings = Wrappings(database, state, key_file(tmp_path))
    await lookup_of(database, state)
    await secretfiles.seal(database, state, wrappings)
    content = spoil((state / "pepper").read_bytes())
    (state / "pepper").write_bytes(content)
    with pytest.raises(StoreError, match=r"restore|put the right one"):
        await lookup_of(database, state, wrappings)
    assert (state / "pepper").read_bytes() == content


async def test_another_ones_secret_is_no_pepper(database: Pool, tmp_path: Path) -> None:
    """What opens, but is not the one that the file says it is."""
    state = tmp_path / "state"
    wrappings = Wrappings(database, state, key_file(tmp_path))
    lookup = await lookup_of(database, state)
    content = await sealedfile.sealed(bytes(32), lookup.fingerprint, wrappings)
    sealedfile.replace_secret(state / "pepper", content)
    with pytest.raises(StoreError, match="is sealed and was changed; restore it"):
        await lookup_of(database, state, wrappings)


async def test_a_death_while_sealing_leaves_the_file(
    database: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one or the new one, at whatever step."""
    state = tmp_path / "state"
    wrappings = Wrappings(database, state, key_file(tmp_path))
    before = await lookup_of(database, state)

    class DeathError(Exception):
        pass

    def die(*_: object) -> None:
        raise DeathError

    for place, name in ((sealedfile, "write_secret"), (Path, "replace"), (sealedfile, "sync_directory")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, die)
            with pytest.raises(DeathError):
                await secretfiles.seal(database, state, wrappings)
        assert await lookup_of(database, state, wrappings) == before
    await secretfiles.seal(database, state, wrappings)
    assert secretfiles.plain(state) == []
