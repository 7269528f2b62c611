"""One caller as the key ring would give it, read from the tables: to explain what would happen, to let nobody in."""

import msgspec

from luntrex_proxy.core.access import Caller
from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.keyrows import LIST, refuse_no_id, unknown_key
from luntrex_proxy.store.keyselect import ONE, THESE_ACCOUNTS
from luntrex_proxy.store.packedkeys import FIELDS, PackedKey, Packer
from luntrex_proxy.store.standings import Standings

_NO_KEY = b"0" * 12


async def of_key(pool: Pool, key_id: str) -> tuple[Caller, str]:
    """The caller that a key makes, and the key's state, as `keys list` has it. RefusedError: there is no such key."""
    refuse_no_id(key_id)
    with store_errors("read the key"):
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            row = await connection.fetchrow(ONE, b"", b"", key_id)
            if row is None:
                raise unknown_key(key_id)
            (listed,) = await connection.fetch(f"{LIST} WHERE k.key_id = $1", key_id)
            return await _caller(connection, Packer().of(row)), str(listed["state"])


async def of_account(pool: Pool, name: str) -> Caller:
    """The caller that a key of the account makes that nothing limits. RefusedError: there is no such account."""
    account = await accounts.get(pool, name)
    with store_errors("read the account"):
        async with pool.acquire() as connection, connection.transaction(readonly=True):
            fields = FIELDS.pack(account.account_id, 0.0, 0.0, _NO_KEY)
            return msgspec.structs.replace(await _caller(connection, PackedKey(fields, None)), key_id="")


async def _caller(connection: Connection, key: PackedKey) -> Caller:
    account_id, not_before, expires_at, key_id = FIELDS.unpack_from(key.fields)
    standings = Standings(lambda: None)
    await standings.read(connection, lambda: None, THESE_ACCOUNTS, [account_id])
    # Of a suspended account the ring has none; what its policy is can be said all the same.
    caller = standings.caller(key)
    return caller or Caller(account_id, key_id.decode(), not_before, expires_at, scope=key.scope)
