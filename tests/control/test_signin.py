"""Signing in: the right password and code, nothing else; alike for addresses that nobody has; guessing is slow, and
nobody is locked out."""

import asyncio
import threading
import time
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import secondfactor, sessions, signin
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.lane import BusyError, Lane
from luntrex_proxy.control.passwords import Passwords, load_blocklist
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.sessions import SignedIn
from luntrex_proxy.control.signin import WrongError
from luntrex_proxy.core.totp import STEP_S, code_at, from_text
from luntrex_proxy.store import people, sealedsecrets, totp
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError, StoreError
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.sealing import add_data_key
from luntrex_proxy.store.wrappings import Wrappings
from tests.people import PASSWORD, give_password, make_person, services_of

HERE, THERE = "192.0.2.0/24", "198.51.100.0/24"
ANOTHER = "a loud ocean in november"


@pytest.fixture
def services(database: Pool, tmp_path: Path) -> Services:
    return services_of(database, tmp_path)


@pytest.fixture
async def ada(services: Services) -> uuid.UUID:
    """A person with a password."""
    person_id = await make_person(services.pool, acme="owner")
    await give_password(services, person_id)
    return person_id


async def enter(services: Services, password: str = PASSWORD, network: str = HERE) -> SignedIn:
    begun = await signin.sign_in(services, "ada@example.org", password, network)
    who = await sessions.signed_in(services, begun.cookie)
    assert who is not None
    return who


async def add_factor(services: Services, now: float) -> tuple[bytes, list[str]]:
    """A confirmed second factor; returns its seed and the recovery codes."""
    who = await enter(services)
    text, _ = await secondfactor.begin(services, who)
    seed = from_text(text)
    return seed, await secondfactor.confirm(services, who, code_at(seed, int(now) // STEP_S), now)


async def test_the_right_password_begins_a_session(services: Services, ada: uuid.UUID) -> None:
    """However the address is written; the audit log says so; the password is in no table."""
    begun = await signin.sign_in(services, " ADA@example.org ", PASSWORD, HERE)
    assert not begun.awaits_code
    who = await sessions.signed_in(services, begun.cookie)
    assert who is not None
    assert who.person_id == ada
    assert who.is_fresh
    entry = await services.pool.fetchrow("SELECT actor, act, facts FROM audit_entry ORDER BY sequence DESC LIMIT 1")
    assert (entry["actor"], entry["act"]) == (f"console:{ada}", "session.started")
    tables = [
        row[0]
        for row in await services.pool.fetch("SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables")
    ]
    for table in tables:
        dumped = str([tuple(row) for row in await services.pool.fetch(f"SELECT * FROM {table}")])
        assert PASSWORD not in dumped, table
        assert begun.cookie not in dumped, table
    assert begun.cookie not in repr(begun)


@pytest.mark.parametrize(
    ("address", "password"),
    [
        ("ada@example.org", PASSWORD + " "),
        ("ada@example.org", PASSWORD.upper()),
        ("ada@example.org", ""),
        ("ada@example.org", "x" * 100_000),
        ("ada@example.org", "\udcff\x00"),
        ("nobody@example.org", PASSWORD),
        ("eve@example.org", PASSWORD),  # here, and has no password yet
        ("", PASSWORD),
        ("no address", PASSWORD),
        ("' OR true --@example.org", PASSWORD),
    ],
)
async def test_anything_else_is_wrong(services: Services, ada: uuid.UUID, address: str, password: str) -> None:
    """One sentence for all of it, no session, and one bcrypt each time."""
    await make_person(services.pool, "eve@example.org")
    with pytest.raises(WrongError) as caught:
        await signin.sign_in(services, address, password, HERE)
    assert str(caught.value) == "This address and this password do not belong together."
    assert await services.pool.fetchval("SELECT count(*) FROM session") == 0


@pytest.mark.parametrize("status", ["suspended", "unverified"])
async def test_who_may_not_come_in_is_told_the_same(services: Services, ada: uuid.UUID, status: str) -> None:
    """With the right password too: it says nothing about whom it is said of."""
    await services.pool.execute("UPDATE person SET status = $1", status)
    with pytest.raises(WrongError):
        await enter(services)


async def test_each_try_costs_one_check_whoever_is_asked_for(
    services: Services, ada: uuid.UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the same cost: an unknown address takes as long (measured by tests/long/sign_in_timing.py)."""
    checked: list[bytes] = []
    monkeypatch.setattr(
        "luntrex_proxy.control.passwords._is_right", lambda _ready, hashed: bool(checked.append(hashed))
    )
    for address in ("ada@example.org", "nobody@example.org"):
        with pytest.raises(WrongError):
            await signin.sign_in(services, address, "wrong", HERE)
    assert [hashed[:7] for hashed in checked] == [b"$2b$04$"] * 2
    assert len(checked[0]) == len(checked[1]) == 60


async def test_a_hash_is_worth_nothing_without_the_pepper(services: Services, ada: uuid.UUID) -> None:
    """Whoever has a copy of the database cannot even try passwords."""
    other = Passwords(Lookup(bytes(32), services.lookup.fingerprint), load_blocklist(None), cost=4)
    row = await people.credentials(services.pool, "ada@example.org")
    assert row is not None
    assert await services.passwords.is_right(PASSWORD, row.password_hash, row.pepper_fingerprint, "")
    assert not await other.is_right(PASSWORD, row.password_hash, row.pepper_fingerprint, "")
    assert str(row.password_hash) not in repr(row)


async def test_passwords_move_to_a_new_pepper_and_cost(services: Services, ada: uuid.UUID, tmp_path: Path) -> None:
    """At the sign-in that was right, and only then; with the old pepper forgotten they open nothing."""
    fresh = Lookup(b"n" * 32, b"n" * 16, services.lookup)
    after = Services(services.settings, services.pool, fresh, tmp_path, key_bcrypt_cost=4, password_bcrypt_cost=5)
    with pytest.raises(WrongError):
        await enter(after, "wrong")
    old = await services.pool.fetchval("SELECT password_hash FROM person")
    assert await enter(after)
    hashed, fingerprint = await services.pool.fetchrow("SELECT password_hash, password_pepper_fingerprint FROM person")
    assert hashed != old
    assert hashed.startswith("$2b$05$")
    assert fingerprint == fresh.fingerprint
    assert await enter(after)
    assert await services.pool.fetchval("SELECT password_hash FROM person") == hashed
    with pytest.raises(WrongError):
        await enter(services)


async def test_one_network_guessing_holds_up_itself_alone(services: Services, ada: uuid.UUID) -> None:
    """A few tries are free, then it waits; the right password there too. From elsewhere the owner comes in at once."""
    for _ in range(5):
        with pytest.raises(WrongError):
            await enter(services, "wrong", THERE)
    with pytest.raises(ThrottledError, match=r"Too many tries; wait [12] seconds") as caught:
        await enter(services, PASSWORD, THERE)
    assert caught.value.retry_after_s <= 2
    assert await enter(services, PASSWORD, HERE)
    await services.pool.execute("UPDATE sign_in_failure SET last_at = now() - interval '20 minutes'")
    assert await enter(services, PASSWORD, THERE)
    for _ in range(5):  # forgiven by what was right
        with pytest.raises(WrongError):
            await enter(services, "wrong", THERE)


async def test_addresses_that_nobody_has_wait_alike(services: Services, ada: uuid.UUID) -> None:
    """So the wait does not say who is here."""
    said = []
    for address in ("ada@example.org", "nobody@example.org"):
        for _ in range(5):
            with pytest.raises(WrongError):
                await signin.sign_in(services, address, "wrong", f"{address}-net")
        with pytest.raises(ThrottledError) as caught:
            await signin.sign_in(services, address, "wrong", f"{address}-net")
        said.append(str(caught.value))
    assert said[0] == said[1]
    rows = str([tuple(row) for row in await services.pool.fetch("SELECT * FROM sign_in_failure")])
    assert "example" not in rows


async def test_one_network_cannot_try_one_password_everywhere(services: Services, ada: uuid.UUID) -> None:
    """Spraying: twenty tries at twenty addresses, then every address there has to wait."""
    for number in range(20):
        with pytest.raises(WrongError):
            await signin.sign_in(services, f"{number}@example.org", PASSWORD, THERE)
    with pytest.raises(ThrottledError):
        await enter(services, PASSWORD, THERE)
    assert await enter(services, PASSWORD, HERE)


async def test_an_attack_from_many_networks_does_not_lock_the_owner_out(services: Services, ada: uuid.UUID) -> None:
    """Strangers have to wait; from where the owner came in before it does not."""
    assert await enter(services, PASSWORD, HERE)
    for number in range(10):
        for _ in range(5):
            with pytest.raises(WrongError):
                await enter(services, "wrong", f"10.0.{number}.0/24")
    with pytest.raises(ThrottledError):
        await enter(services, "wrong", "10.0.99.0/24")
    assert await enter(services, PASSWORD, HERE)


async def test_tries_at_once_are_not_more_than_the_bound(services: Services, ada: uuid.UUID) -> None:
    """A try is counted before it is looked at."""
    tries = [enter(services, f"wrong {number}") for number in range(12)]
    ends = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(end, WrongError) for end in ends) <= 5
    assert all(isinstance(end, WrongError | ThrottledError | BusyError) for end in ends)


async def test_the_lane_is_bounded_and_no_network_fills_it() -> None:
    """Sixteen wait at most, twelve of one network; who leaves does not break the count."""
    lane, go = Lane(), threading.Event()
    waiting = [asyncio.ensure_future(lane.run("a", go.wait, 5)) for _ in range(12)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await lane.run("a", time.time)
    waiting += [asyncio.ensure_future(lane.run(f"b{n}", go.wait, 5)) for n in range(4)]
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await lane.run("c", time.time)
    waiting[3].cancel()
    go.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert await asyncio.wait_for(lane.run("a", lambda: 7), 5) == 7


async def test_too_busy_is_no_failure(services: Services, ada: uuid.UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer for that, nor is anything forgiven that others have tried."""

    async def busy(*_: object) -> bool:
        raise BusyError

    for _ in range(5):
        with pytest.raises(WrongError):
            await enter(services, "wrong", THERE)
    later = "UPDATE sign_in_failure SET last_at = last_at - interval '2 minutes'"
    monkeypatch.setattr(Passwords, "is_right", busy)
    for _ in range(30):
        with pytest.raises(BusyError):
            await enter(services)
    for _ in range(5):
        await services.pool.execute(later)
        with pytest.raises(BusyError):
            await enter(services, PASSWORD, THERE)
    monkeypatch.undo()
    counts = await services.pool.fetch("SELECT failures FROM sign_in_failure ORDER BY 1 DESC")
    assert [row[0] for row in counts][:2] == [5, 5], "of its network and address, and of the address everywhere"
    assert await enter(services)


async def test_a_second_factor_is_asked_for(services: Services, ada: uuid.UUID) -> None:
    """Between password and code nobody is signed in; each code works once; the cookie changes with it."""
    now = 1_800_000_000.0
    seed, _ = await add_factor(services, now)
    begun = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
    assert begun.awaits_code
    half = await sessions.signed_in(services, begun.cookie)
    assert half is not None
    assert half.awaits_code
    used, fresh = code_at(seed, int(now) // STEP_S), code_at(seed, int(now) // STEP_S + 1)
    for wrong in (used, "000000", "", "é", fresh + "1"):
        with pytest.raises(WrongError):
            await signin.give_code(services, half, wrong, HERE, now)
        await services.pool.execute("DELETE FROM sign_in_failure")
    cookie = await signin.give_code(services, half, f" {fresh[:3]} {fresh[3:]} ", HERE, now)
    assert await sessions.signed_in(services, begun.cookie) is None
    who = await sessions.signed_in(services, cookie)
    assert who is not None
    assert not who.awaits_code
    again = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
    half = await sessions.signed_in(services, again.cookie)
    assert half is not None
    with pytest.raises(WrongError):
        await signin.give_code(services, half, fresh, HERE, now)


async def test_codes_cannot_be_guessed(services: Services, ada: uuid.UUID) -> None:
    """Whoever has the password has to wait as well, from this network; a session that awaits a code ends soon."""
    await add_factor(services, 1_800_000_000.0)
    begun = await signin.sign_in(services, "ada@example.org", PASSWORD, THERE)
    half = await sessions.signed_in(services, begun.cookie)
    assert half is not None
    for number in range(5):
        with pytest.raises(WrongError):
            await signin.give_code(services, half, f"00000{number}", THERE, 0)
    with pytest.raises(ThrottledError):
        await signin.give_code(services, half, "000009", THERE, 0)


async def test_recovery_codes_stand_in_each_once(services: Services, ada: uuid.UUID) -> None:
    """However they are typed; the table has hashes; each use is in the audit log."""
    _, codes = await add_factor(services, 1_800_000_000.0)
    assert len(set(codes)) == 10
    dumped = str(await services.pool.fetch("SELECT * FROM recovery_code"))
    for number, typed in enumerate((codes[0], codes[1].upper().replace("-", " "))):
        begun = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
        half = await sessions.signed_in(services, begun.cookie)
        assert half is not None
        assert await signin.give_code(services, half, typed, HERE, 0)
        assert codes[number] not in dumped
    begun = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
    half = await sessions.signed_in(services, begun.cookie)
    assert half is not None
    with pytest.raises(WrongError):
        await signin.give_code(services, half, codes[0], HERE, 0)
    assert await services.pool.fetchval("SELECT count(*) FROM recovery_code") == 8
    assert await services.pool.fetchval("SELECT count(*) FROM audit_entry WHERE act = 'recovery_code.used'") == 2


async def test_a_seed_is_sealed_and_follows_the_data_key(services: Services, ada: uuid.UUID) -> None:
    """A copy of the database makes no codes; a rotation of the data key loses none; a moved seed does not open."""
    seed, _ = await add_factor(services, 1_800_000_000.0)
    row = await services.pool.fetchval("SELECT seed FROM totp")
    assert seed not in row
    wrappings = Wrappings(services.pool, services.state_directory, services.settings.sealing)
    await add_data_key(services.pool, wrappings)
    assert await sealedsecrets.seal_anew(services.pool, await services.sealer()) == 1
    assert await services.pool.fetchval("SELECT count(*) FROM data_key") == 1
    assert await services.pool.fetchval("SELECT seed FROM totp") != row
    factor = await totp.find(services.pool, await services.sealer(), ada)
    assert factor is not None
    assert from_text(factor.seed) == seed
    eve = await make_person(services.pool, "eve@example.org")
    await services.pool.execute("INSERT INTO totp (person_id, seed) SELECT $1, seed FROM totp", eve)
    with pytest.raises(StoreError, match="was changed, moved"):
        await totp.find(services.pool, await services.sealer(), eve)


async def test_a_factor_that_was_not_confirmed_is_not_asked_for(services: Services, ada: uuid.UUID) -> None:
    """Begun twice, the last seed counts; once confirmed, none can be put in its place; other sessions end."""
    who, other = await enter(services), await enter(services, network=THERE)
    first, _ = await secondfactor.begin(services, who)
    second, _ = await secondfactor.begin(services, who)
    assert not (await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)).awaits_code
    now = 1_800_000_000.0
    for wrong in (code_at(from_text(first), int(now) // STEP_S), "", "000000"):
        with pytest.raises(RefusedError, match="not right"):
            await secondfactor.confirm(services, who, wrong, now)
    assert await secondfactor.begun(services, who)
    await secondfactor.confirm(services, who, code_at(from_text(second), int(now) // STEP_S), now)
    with pytest.raises(RefusedError, match="already"):
        await secondfactor.begin(services, who)
    with pytest.raises(RefusedError, match="Begin again"):
        await secondfactor.confirm(services, who, "000000", now)
    ended = "SELECT ended_at IS NOT NULL FROM session WHERE session_id = $1"
    assert not await services.pool.fetchval(ended, who.session_id)
    assert await services.pool.fetchval(ended, other.session_id)


async def test_a_short_password_needs_its_second_factor(services: Services, ada: uuid.UUID) -> None:
    """Eight characters do beside codes; without them the password has to be a long one first."""
    await add_factor(services, 1_800_000_000.0)
    begun = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
    half = await sessions.signed_in(services, begun.cookie)
    assert half is not None
    seed = (await totp.find(services.pool, await services.sealer(), ada)).seed  # type: ignore[union-attr]  # it is there
    cookie = await signin.give_code(
        services, half, code_at(from_text(seed), 1_800_000_030 // STEP_S), HERE, 1_800_000_030
    )
    who = await sessions.signed_in(services, cookie)
    assert who is not None
    await signin.change_password(services, who, PASSWORD, "tk9 wq!x", HERE)
    with pytest.raises(RefusedError, match="at least 15"):
        await signin.remove_second_factor(services, who, "tk9 wq!x", HERE)
    await signin.change_password(services, who, "tk9 wq!x", ANOTHER, HERE)
    with pytest.raises(WrongError):
        await signin.remove_second_factor(services, who, "wrong", HERE)
    assert await signin.remove_second_factor(services, who, ANOTHER, HERE)
    assert not (await signin.sign_in(services, "ada@example.org", ANOTHER, HERE)).awaits_code
    assert await services.pool.fetchval("SELECT count(*) FROM recovery_code") == 0


async def test_changing_the_password_ends_all_other_sessions(services: Services, ada: uuid.UUID) -> None:
    """Only who knows the present one can; this session goes on with another cookie; a weak one changes nothing."""
    begun = await signin.sign_in(services, "ada@example.org", PASSWORD, HERE)
    who = await sessions.signed_in(services, begun.cookie)
    other = await enter(services, network=THERE)
    assert who is not None
    for present, wanted, error in (
        ("wrong", ANOTHER, "not your password"),
        (PASSWORD, "short", "at least 15"),
        (PASSWORD, "ada@example.org", "made of your name"),
        (PASSWORD, "password12345678", "guessed first"),
    ):
        with pytest.raises(RefusedError, match=error):
            await signin.change_password(services, who, present, wanted, HERE)
    assert await enter(services)
    cookie = await signin.change_password(services, who, PASSWORD, ANOTHER, HERE)
    assert await sessions.signed_in(services, begun.cookie) is None
    mine = await sessions.signed_in(services, cookie)
    assert mine is not None
    assert mine.session_id == who.session_id
    live = await services.pool.fetch("SELECT session_id FROM session WHERE ended_at IS NULL")
    assert [row[0] for row in live] == [who.session_id]
    assert other.session_id != who.session_id
    with pytest.raises(WrongError):
        await enter(services)
    assert await enter(services, ANOTHER)


async def test_proving_it_again_makes_a_session_fresh(services: Services, ada: uuid.UUID) -> None:
    """By the password; a wrong one proves nothing."""
    who = await enter(services)
    await services.pool.execute("UPDATE session SET authenticated_at = now() - interval '11 minutes'")
    with pytest.raises(WrongError, match="not your password"):
        await signin.confirm(services, who, "wrong", HERE)
    again = await sessions.signed_in(services, await signin.confirm(services, who, PASSWORD, HERE))
    assert again is not None
    assert again.is_fresh


async def test_an_installation_can_block_more_passwords(database: Pool, tmp_path: Path) -> None:
    """By a file of its own; one that is not there is a sentence."""
    own = tmp_path / "blocked"
    own.write_text("analytical engine forever\n\n")
    services = services_of(database, tmp_path, console={"blocked_passwords_file": str(own)})
    for word in ("Analytical Engine Forever", "passwordpassword"):
        with pytest.raises(RefusedError, match="guessed first"):
            services.passwords.refuse_weak(word, "x@example.org", "", has_totp=False)
    services.passwords.refuse_weak(PASSWORD, "x@example.org", "", has_totp=False)
    own.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        services_of(database, tmp_path, console={"blocked_passwords_file": str(own)})
