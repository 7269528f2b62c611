"""AWS KMS as the keeper of the wrapping key: bound to the installation, rotated whatever fails, verified, silent."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from luntrex_proxy import chores
from luntrex_proxy.control.services import Services
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.sealing import Kms, Sealing
from luntrex_proxy.store import sealedsecrets
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.sealedsecrets import SecretBook
from luntrex_proxy.store.sealing import add_data_key, open_sealer
from luntrex_proxy.store.wrapping import UnwrapError, WrappingUnavailableError
from luntrex_proxy.store.wrappings import Wrappings
from tests.kms import REGION, FrontedKms, aws_environment, running_moto
from tests.postgres import LOOKUP
from tests.upstreams.certificates import Authority
from tests.upstreams.loop_thread import LoopThread

PLAIN = "sk-canary-40ab1d"


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


def setting(front: FrontedKms, key_id: str, **more: object) -> Sealing:
    return Sealing(kms=Kms.model_validate({"key_id": key_id, "region": REGION, "endpoint": front.endpoint} | more))


async def put(pool: Pool, wrappings: Wrappings, name: str = "a") -> None:
    await sealedsecrets.put(pool, await open_sealer(pool, wrappings), name, PLAIN)


async def opens(pool: Pool, wrappings: Wrappings) -> bool:
    """Whether somebody who knows nothing yet reads the secret."""
    return (await sealedsecrets.values(pool, await open_sealer(pool, wrappings)))["a"] == PLAIN


async def keepers(pool: Pool) -> set[str]:
    return {row[0] for row in await pool.fetch("SELECT wrapped_by FROM data_key")}


async def test_data_keys_are_wrapped_there_and_bound_to_the_installation(
    database: Pool, kms: FrontedKms, tmp_path: Path
) -> None:
    """KMS sees data keys and an encryption context, never a secret; no file; another installation opens none."""
    key = kms.new_key()
    wrappings = Wrappings(database, tmp_path, setting(kms, key))
    await put(database, wrappings)
    assert await opens(database, wrappings)
    assert await keepers(database) == {f"kms:{key}"}
    installation = str(await database.fetchval("SELECT installation_id FROM installation"))
    assert {operation for operation, _ in kms.asked} == {"Encrypt", "Decrypt"}
    for _, arguments in kms.asked:
        assert arguments["EncryptionContext"] == {"luntrex-installation": installation, "luntrex-purpose": "data key"}
    assert PLAIN not in str(kms.asked)
    assert list(tmp_path.iterdir()) == []
    await database.execute("UPDATE installation SET installation_id = gen_random_uuid()")
    with pytest.raises(UnwrapError, match="a data key was changed, or is of another installation"):
        await open_sealer(database, Wrappings(database, tmp_path, setting(kms, key)))


async def test_data_keys_stay_in_memory_when_kms_goes(database: Pool, kms: FrontedKms, tmp_path: Path) -> None:
    """What was opened serves on, new secrets too; a start or a new data key waits, with a sentence."""
    wrappings = Wrappings(database, tmp_path, setting(kms, kms.new_key()))
    await put(database, wrappings)
    book = SecretBook(database, wrappings)
    await book.open()
    sealer = await open_sealer(database, wrappings)
    kms.go_away()
    await sealedsecrets.put(database, sealer, "b", PLAIN)
    assert await book.refresh()
    assert book.values == {"a": PLAIN, "b": PLAIN}
    with pytest.raises(WrappingUnavailableError, match="which wraps the data keys, cannot be reached"):
        await book.ask_keeper()
    assert not book.keeper_answers
    with pytest.raises(WrappingUnavailableError, match="cannot be reached"):
        await SecretBook(database, wrappings).open()
    kms.come_back()
    await book.ask_keeper()
    assert book.keeper_answers


async def test_second_factors_open_when_kms_goes_before_the_first(
    database: Pool, kms: FrontedKms, tmp_path: Path
) -> None:
    """The console has the data keys of the start, not only those it needed before."""
    sealing = setting(kms, kms.new_key())
    book = SecretBook(database, Wrappings(database, tmp_path, sealing))
    await book.open()
    settings = Settings.model_validate({"sealing": sealing.model_dump()})
    console = Services(settings, database, LOOKUP, tmp_path, data_keys=book.data_keys)
    kms.go_away()
    assert await console.sealer()
    with pytest.raises(WrappingUnavailableError):
        await Services(settings, database, LOOKUP, tmp_path).sealer()


@pytest.mark.parametrize("way", ["file -> kms", "kms -> kms", "kms -> file"])
@pytest.mark.parametrize("fault", ["none", "first", "between", "gone"])
async def test_the_wrapping_key_is_rotated_whatever_fails(
    database: Pool, kms: FrontedKms, tmp_path: Path, way: str, fault: str
) -> None:
    """Two data keys, a fault before, between or at any of them: all is as it was, and a second run completes."""
    before, _, after = way.partition(" -> ")
    old = Sealing() if before == "file" else setting(kms, kms.new_key())
    await put(database, Wrappings(database, tmp_path, old))
    await add_data_key(database, Wrappings(database, tmp_path, old))
    was = await keepers(database)
    wanted = old if after == "file" else setting(kms, kms.new_key())
    wrappings = Wrappings(database, tmp_path, wanted)
    if fault != "none":
        await opens(database, wrappings)  # also by the new configuration
        if fault == "gone":
            kms.go_away()
        else:
            kms.fault = (500, "KMSInternalException")
            # Both are opened, then each is unwrapped and wrapped; a file asks nobody.
            both_opened_and_one_done = {"file -> kms": 1, "kms -> kms": 4, "kms -> file": 3}[way]
            kms.answers_left = 0 if fault == "first" else both_opened_and_one_done
        with pytest.raises(StoreError) as failed:
            await wrappings.rotate(to_file=after == "file")
        assert "canary" not in str(failed.value)
        assert await keepers(database) == was
        if fault == "gone":
            kms.come_back()
        kms.fault = kms.answers_left = None
    assert await opens(database, Wrappings(database, tmp_path, wanted))
    assert await wrappings.rotate(to_file=after == "file") == 2
    now = await keepers(database)
    assert now.isdisjoint(was)
    assert {name.partition(":")[0] for name in now} == {after}
    assert await opens(database, Wrappings(database, tmp_path, wanted))
    if after == "file":
        assert await opens(database, Wrappings(database, tmp_path, Sealing()))
    else:
        with pytest.raises(StoreError, match=r"sealed under the wrapping key kms:.*set sealing\.kms\.key_id"):
            await opens(database, Wrappings(database, tmp_path, Sealing()))


async def test_two_rotations_at_once_are_one(database: Pool, kms: FrontedKms, tmp_path: Path) -> None:
    """The later one changes nothing of what the first one did."""
    await put(database, Wrappings(database, tmp_path, Sealing()))
    wanted = setting(kms, kms.new_key())
    done = await asyncio.gather(
        *(Wrappings(database, tmp_path, wanted).rotate() for _ in range(2)), return_exceptions=True
    )
    assert sum(result == 1 for result in done) >= 1
    assert all(result == 1 or isinstance(result, RefusedError) for result in done)
    assert await opens(database, Wrappings(database, tmp_path, wanted))


@pytest.mark.parametrize(
    ("answer", "kind", "sentence"),
    [
        ((400, "AccessDeniedException"), StoreError, "give this machine's role kms:Encrypt and kms:Decrypt"),
        ((400, "NotFoundException"), StoreError, "no such key in this region"),
        ((400, "KMSInvalidStateException"), StoreError, "not in use"),
        ((400, "InvalidCiphertextException"), UnwrapError, "was changed, or is of another installation"),
        ((400, "canary<script>"), StoreError, "status 400"),
        ((400, "ThrottlingException"), WrappingUnavailableError, "is busy or has a fault; try again"),
        ((503, "whatever"), WrappingUnavailableError, "is busy"),
    ],
)
async def test_each_refusal_is_one_sentence_of_ours(
    database: Pool, kms: FrontedKms, tmp_path: Path, answer: tuple[int, str], kind: type[StoreError], sentence: str
) -> None:
    """What to do, and nothing the other side said."""
    kms.fault = answer
    with pytest.raises(kind, match=sentence) as refused:
        await open_sealer(database, Wrappings(database, tmp_path, setting(kms, kms.new_key())))
    assert "canary" not in str(refused.value)
    assert await keepers(database) == set()


@pytest.mark.parametrize("wrong", ["authority", "name", "plaintext"])
async def test_kms_is_asked_over_verified_tls_only(
    database: Pool, servers: LoopThread, moto: int, tmp_path: Path, wrong: str
) -> None:
    """A certificate of others or for another name, or none at all: no data key goes there. The right one: it does."""
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    trusted = Authority(tmp_path / "other") if wrong == "authority" else authority
    names = ("kms.example",) if wrong == "name" else ("127.0.0.1",)
    tls = None if wrong == "plaintext" else authority.server_context(*names)
    front, good = FrontedKms(servers, moto, tls), FrontedKms(servers, moto, authority.server_context("127.0.0.1"))
    try:
        endpoint = front.endpoint.replace("http://", "https://")
        refused = setting(front, front.new_key(), endpoint=endpoint, ca_file=trusted.ca_file)
        with pytest.raises(WrappingUnavailableError, match="cannot be reached over TLS"):
            await open_sealer(database, Wrappings(database, tmp_path, refused))
        assert front.asked == []
        taken = setting(good, good.new_key(), ca_file=authority.ca_file)
        await open_sealer(database, Wrappings(database, tmp_path, taken))
    finally:
        front.go_away()
        good.go_away()


async def test_no_credentials_and_no_library(
    database: Pool, kms: FrontedKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each says what to do."""
    wanted = setting(kms, kms.new_key())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StoreError, match="no credentials for AWS KMS: set AWS_ACCESS_KEY_ID"):
        await open_sealer(database, Wrappings(database, tmp_path, wanted))
    monkeypatch.setitem(__import__("sys").modules, "botocore.session", None)
    with pytest.raises(StoreError, match=r"pip install luntrex-proxy\[aws\]"):
        await open_sealer(database, Wrappings(database, tmp_path, wanted))


async def test_kms_is_watched_and_doctor_says_how_it_is(
    database: Pool, kms: FrontedKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone and back are noticed by themselves; a look makes nothing, and finds what a rotation has left to do."""
    monkeypatch.setattr(chores, "_KEEPER_EVERY_S", 0.01)
    wanted = setting(kms, kms.new_key())
    look = Wrappings(database, tmp_path, wanted, only_look=True).look
    assert await look() == (f"kms:{wanted.kms.key_id}", True)
    assert await keepers(database) == set()
    await put(database, Wrappings(database, tmp_path, Sealing()))
    by, is_as_configured = await look()
    assert (by.partition(":")[0], is_as_configured) == ("file", False)
    await Wrappings(database, tmp_path, wanted).rotate()
    book = SecretBook(database, Wrappings(database, tmp_path, wanted))
    await book.open()
    task = asyncio.create_task(chores.watch_keeper(book))
    try:
        for change, answers in ((kms.go_away, False), (kms.come_back, True)):
            change()
            async with asyncio.timeout(20):
                while book.keeper_answers != answers:
                    await asyncio.sleep(0.01)
    finally:
        task.cancel()
    kms.fault = (400, "DisabledException")
    with pytest.raises(StoreError, match="disabled; enable it"):
        await look()
