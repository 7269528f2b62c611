"""People who are not here and whose address is: somebody invited, or who reported a child. They have rights as well.

Which columns hold an address is read from the schema (ownership.py). Letters are left out of the question whether one
is kept: each goes with what it is about, or is gone within a day.
"""

from datetime import datetime, timedelta
from typing import Final

from luntrex_proxy.store import ownership, subjects
from luntrex_proxy.store.database import Connection
from luntrex_proxy.store.erasing import Kept, Receipt, erase_everywhere
from luntrex_proxy.store.ownership import Kind, Subject, Where

# The request itself, and whom a letter goes to.
_LEFT_OUT: Final = frozenset({"rights_request", "mail"})


async def is_mentioned(connection: Connection, email: str, *, held: bool = False) -> bool:
    """Whether the address is kept anywhere; `held`: in a row of an account that a legal hold concerns."""
    accounts = list((await subjects.held(connection)).account_ids)
    for table in await ownership.tables(connection):
        where = Where()
        said = where.any_of((one for one in table.links if one.kind is Kind.EMAIL), Subject(emails=[email]))
        if said is None or table.name in _LEFT_OUT:
            continue
        if held:
            of_account = where.any_of(
                (one for one in table.links if one.kind is Kind.ACCOUNT), Subject(account_ids=accounts)
            )
            said = f"{said} AND {of_account or 'false'}"
        if await connection.fetchval(
            f"SELECT EXISTS (SELECT FROM {table.name} WHERE {said})",  # noqa: S608 -- names of the schema
            *where.arguments,
        ):
            return True
    return False


async def erase(connection: Connection, email: str, now: datetime, audit_days: int) -> Receipt:
    """Erase the address wherever it is, in the caller's transaction."""
    receipt = Receipt()
    await erase_everywhere(connection, Subject(emails=[email]), receipt)
    until = (now + timedelta(days=audit_days)).date()
    receipt.kept = [
        Kept("audit log without names", "proof of what was done", until),
        Kept("this request", "proof that it was answered", until),
        Kept("backups made before", "whoever runs this keeps them until they are deleted", None),
    ]
    return receipt
