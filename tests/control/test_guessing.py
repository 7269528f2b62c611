"""Slowing guesses down costs no room, and an old password that was right a moment ago begins nothing."""

import asyncio
import uuid
from pathlib import Path

import pytest

from luntrex_proxy.control import signin
from luntrex_proxy.control.guessing import ThrottledError
from luntrex_proxy.control.passwords import Passwords
from luntrex_proxy.control.services import Services
from luntrex_proxy.control.signin import WrongError
from luntrex_proxy.store import people
from luntrex_proxy.store.database import Pool
from tests.people import PASSWORD, give_password, make_person, services_of

HERE = "192.0.2.0/24"
ADA = "ada@example.org"


@pytest.fixture
async def ada(services: Services) -> uuid.UUID:
    """A person with a password."""
    person_id = await make_person(services.pool, acme="owner")
    await give_password(services, person_id)
    return person_id


@pytest.fixture
def services(database: Pool, tmp_path: Path) -> Services:
    return services_of(database, tmp_path)


async def test_a_network_that_waits_fills_no_table(services: Services, ada: uuid.UUID) -> None:
    """However many addresses it asks for: nothing is kept of a try that is not made."""
    for number in range(20):
        with pytest.raises(WrongError):
            await signin.sign_in(services, f"{number}@example.org", "wrong", HERE)
    before = await services.pool.fetchval("SELECT count(*) FROM sign_in_failure")
    await services.pool.execute("UPDATE sign_in_failure SET failures = 30, last_at = now() WHERE failures = 20")
    for number in range(5):
        with pytest.raises(ThrottledError):
            await signin.sign_in(services, f"other{number}@example.org", "wrong", HERE)
    assert await services.pool.fetchval("SELECT count(*) FROM sign_in_failure") == before


@pytest.mark.parametrize("change", ["password", "suspended"])
async def test_what_changes_while_a_password_is_looked_at_counts(
    services: Services, ada: uuid.UUID, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Checking takes a while: a session that the old password asked for does not begin after the change ended all."""
    looked, changed = asyncio.Event(), asyncio.Event()
    is_right = Passwords.is_right

    async def slow(self: Passwords, password: str, hashed: str | None, mark: bytes | None, network: str) -> bool:
        answer = await is_right(self, password, hashed, mark, network)
        looked.set()
        await changed.wait()
        return answer

    monkeypatch.setattr(Passwords, "is_right", slow)
    entering = asyncio.create_task(signin.sign_in(services, ADA, PASSWORD, HERE))
    await looked.wait()
    if change == "password":
        await give_password(services, ada, "another loud ocean in november")
    else:
        await people.suspend(services.pool, ada, although_last_owner=True)
    changed.set()
    with pytest.raises(WrongError):
        await entering
    assert await services.pool.fetchval("SELECT count(*) FROM session WHERE ended_at IS NULL") == 0
