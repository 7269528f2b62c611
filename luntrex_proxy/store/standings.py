"""What accounts and people say of all their keys: one entry each, however many keys they have.

Nearly all say nothing and are not held: an account that is not here is active, with the default policy, and nobody in
it asked that data only be stored.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from luntrex_proxy.core.access import Caller
from luntrex_proxy.core.policy import NOTHING, BadPolicyError, Policy, read_policy
from luntrex_proxy.core.scope import ONLY_STORED
from luntrex_proxy.store.accountsaid import Said, SaidByAccounts
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.keyselect import RESTRICTED
from luntrex_proxy.store.packedkeys import FIELDS, PackedKey

_BATCH_ROWS: Final = 500
_SHARED_MAX: Final = 10_000  # policies; beyond it equal ones are no longer one object


async def _nothing(connection: Connection, on_answer: Callable[[], None]) -> None:
    pass


class Standings:
    """Who is suspended or restricted, under which policy, with which consents.

    `on_change` is called as soon as any of it is another one: callers that were made before are out of date.
    """

    def __init__(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        self._accounts = SaidByAccounts()
        self._restricted_accounts: frozenset[int] = frozenset()
        self._restricted_people: frozenset[bytes] = frozenset()
        self._policies: dict[str, Policy] = {}

    def caller(self, key: PackedKey) -> Caller | None:
        """The caller of a live key; None while its account is suspended."""
        account_id, not_before, expires_at, key_id = FIELDS.unpack_from(key.fields)
        account = self._accounts.get(account_id)
        if not account.is_active:
            return None
        person = key.fields[FIELDS.size :]
        restricted = person in self._restricted_people if person else account_id in self._restricted_accounts
        scope = ONLY_STORED if restricted else key.scope
        said = account.policy, scope, account.consents
        return Caller(account_id, key_id.decode(), not_before, expires_at, *said, person)

    def of_suspended(self, in_use: dict[str, int]) -> set[str]:
        """Those of these keys (key id -> account id) whose account is suspended."""
        return {key_id for key_id, account_id in in_use.items() if not self._accounts.get(account_id).is_active}

    async def read(
        self,
        connection: Connection,
        on_answer: Callable[[], None],
        statement: str,
        *values: object,
        between: Callable[[Connection, Callable[[], None]], Awaitable[None]] = _nothing,
    ) -> bool:
        """Read what some accounts say (by a statement of keyselect.py), and who is restricted; in a transaction.

        Whether one of the accounts is suspended. `between` is done between batches.
        """
        suspended = False
        cursor = await connection.cursor(statement, *values)
        on_answer()
        while rows := await cursor.fetch(_BATCH_ROWS):
            on_answer()
            if sum(map(self._hear, rows)):
                self._on_change()
            suspended = suspended or not all(row["active"] for row in rows)
            await between(connection, on_answer)
            await asyncio.sleep(0)
        (restricted,) = await connection.fetch(RESTRICTED)
        on_answer()
        before = self._restricted_accounts, self._restricted_people
        self._restricted_accounts = frozenset(restricted["accounts"])
        self._restricted_people = frozenset(restricted["people"])
        if before != (self._restricted_accounts, self._restricted_people):
            self._on_change()
        return suspended

    def _hear(self, row: Any) -> bool:
        """Whether the account says something else than before."""
        said = Said(row["active"], self._policy(row["policy"]), row["consents"])
        return self._accounts.put(row["account_id"], said)

    def _policy(self, text: str | None) -> Policy | None:
        """One that nobody understands admits nothing."""
        if text is None:
            return None
        policy = self._policies.get(text)
        if policy is None:
            try:
                policy = read_policy(text)
            except BadPolicyError:
                policy = NOTHING
            if len(self._policies) >= _SHARED_MAX:
                self._policies.clear()
            self._policies[text] = policy
        return policy
