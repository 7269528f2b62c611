"""People for tests: made straight in the table, with the services that the control plane gets."""

import uuid
from pathlib import Path

from luntrex_proxy.control.services import Services
from luntrex_proxy.core.health import Condition
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import accounts, people
from luntrex_proxy.store.database import Pool
from tests.postgres import LOOKUP

PASSWORD = "a quiet river in may"
MAIL = {
    "mail": {"host": "127.0.0.1", "port": 1, "security": "none", "sender": "proxy@example.org"},
    "console": {"public_url": "https://proxy.example.org", "sign_up": "open"},
}


def services_of(pool: Pool, directory: Path, **settings: object) -> Services:
    """What the control plane would be given; bcrypt is cheap."""
    read = Settings.model_validate(settings)
    entries = build_catalogue(read.models, read.upstreams).entries
    up = [Condition(upstream.name, "ready", 1.0, 0, maintenance=False) for upstream in read.upstreams]
    return Services(
        read, pool, LOOKUP, directory, key_bcrypt_cost=4, password_bcrypt_cost=4,
        models=lambda: entries, upstreams=lambda _models: up,
    )  # fmt: skip


async def make_person(
    pool: Pool, email: str = "ada@example.org", *, operator: bool = False, status: str = "active", **roles: str
) -> uuid.UUID:
    """A person without a password; `roles` are account name = role, the accounts made when they are missing."""
    person_id: uuid.UUID = await pool.fetchval(
        "INSERT INTO person (email, operator, status, affirmed_16_at) VALUES ($1, $2, $3, now()) RETURNING person_id",
        email,
        operator,
        status,
    )
    for account, role in roles.items():
        known = await accounts.find(pool, account) or await accounts.create(pool, account)
        await pool.execute("INSERT INTO membership VALUES ($1, $2, $3)", person_id, known.account_id, role)
    return person_id


async def give_password(services: Services, person_id: uuid.UUID, password: str = PASSWORD) -> None:
    """Let a person sign in with it."""
    hashed, fingerprint = await services.passwords.hashed(password)
    async with services.pool.acquire() as connection, connection.transaction():
        await people.set_password(connection, person_id, hashed, fingerprint)
