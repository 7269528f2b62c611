"""What tests of keys share: peppers, an account, rings and keys."""

from luntrex_proxy.core.access import Caller
from luntrex_proxy.store import apikeys
from luntrex_proxy.store.apikeys import NewKey
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.keyring import KeyRing
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.pepper import Lookup
from tests.postgres import LOOKUP

FIRST = LOOKUP
SECOND = Lookup(bytes(range(1, 33)), b"s" * 16)
BOTH = Lookup(SECOND.key, SECOND.fingerprint, FIRST)  # in a rotation from the first to the second
ALWAYS = Terms()
HERE, ELSEWHERE = "192.0.2.0/24", "198.51.100.0/24"  # clients' networks


async def make(pool: Pool, name: str = "main", lookup: Lookup = FIRST, terms: Terms = ALWAYS) -> NewKey:
    """A key of the account acme."""
    return await apikeys.create(pool, lookup, "acme", name, terms, bcrypt_cost=4)


async def loaded(pool: Pool, lookup: Lookup = FIRST) -> KeyRing:
    """A ring with all live keys."""
    ring = KeyRing(lookup)
    await ring.load(pool)
    return ring


async def catch_up(ring: KeyRing, pool: Pool) -> None:
    """As the follower does on each news."""
    async with pool.acquire() as connection:
        await ring.catch_up(connection)


def find(ring: KeyRing, made: NewKey) -> Caller | None:
    """The caller of a key."""
    return ring.find(made.key.encode())


def in_use(*made: NewKey) -> dict[str, int]:
    """As a ring is told of keys that something runs with."""
    return {each.info.key_id: each.info.account_id for each in made}


async def set_peppers(pool: Pool, present: Lookup, old: Lookup | None = None) -> None:
    """What the installation says its peppers are."""
    await pool.execute(
        "UPDATE installation SET pepper_fingerprint = $1, old_pepper_fingerprint = $2",
        present.fingerprint,
        None if old is None else old.fingerprint,
    )
