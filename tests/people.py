"""People for tests: made straight in the table, with the services that the control plane gets."""

import uuid
from pathlib import Path

from luntrex_proxy.control.services import Services
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from tests.postgres import LOOKUP


def services_of(pool: Pool, directory: Path, **settings: object) -> Services:
    """What the control plane would be given."""
    return Services(Settings.model_validate(settings), pool, LOOKUP, directory)


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
