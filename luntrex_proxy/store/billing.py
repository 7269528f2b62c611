"""Invoices in the schema `billing`: kept as long as the law of their country says, whoever is erased meanwhile.

Work on them is done as a role that can read nothing else, so no statement here can join an invoice with usage. A server
whose user may make no roles works without; `doctor` says so.
"""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

import asyncpg

from luntrex_proxy.core.retention import keep_until
from luntrex_proxy.store import audit
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError

ROLE: Final = "luntrex_billing"
_COLUMNS: Final = (
    "invoice_id, number, account_id, recipient, country, amount, currency, issued_on, paid_on, keep_until, month"
)
# ruff: noqa: S608 -- statements of constants of this file
_INSERT: Final = (
    "INSERT INTO billing.invoice (number, account_id, recipient, country, amount, currency, issued_on, keep_until,"
    f" month) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_COLUMNS}"
)
_PAY: Final = f"UPDATE billing.invoice SET paid_on = coalesce(paid_on, $2) WHERE number = $1 RETURNING {_COLUMNS}"
_PAGE: Final = (
    f"SELECT {_COLUMNS} FROM billing.invoice WHERE ($1::bigint IS NULL OR account_id = $1)"
    " AND ($2::date IS NULL OR (issued_on, invoice_id) < ($2, $3::uuid))"
    " ORDER BY issued_on DESC, invoice_id DESC LIMIT $4"
)
_ONE: Final = (
    f"SELECT {_COLUMNS} FROM billing.invoice WHERE ($1::text IS NULL OR number = $1)"
    " AND ($2::uuid IS NULL OR invoice_id = $2) AND num_nonnulls($1::text, $2::uuid) > 0"
)
_OF_ACCOUNTS: Final = f"SELECT {_COLUMNS} FROM billing.invoice WHERE account_id = ANY($1) ORDER BY issued_on, number"
_IS_CLOSED: Final = "SELECT EXISTS (SELECT FROM statement WHERE account_id = $1 AND month = $2)"
# A backup holds no roles and no rights, so this is done at every start.
_GRANT: Final = f"""
REVOKE ALL ON SCHEMA billing FROM PUBLIC;
GRANT USAGE ON SCHEMA billing TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA billing TO {ROLE};
GRANT {ROLE} TO CURRENT_USER;
"""


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice; `keep_until` is the last day on which the law wants it."""

    invoice_id: uuid.UUID
    number: str
    account_id: int  # outlives the account
    recipient: str
    country: str
    amount: Decimal
    currency: str
    issued_on: date
    paid_on: date | None
    keep_until: date
    month: date | None = None  # whose statement it bills; None: something else


async def ensure_role(pool: Pool) -> bool:
    """Make the role and give it its rights; False: this user may not."""
    with store_errors("keep invoices apart"):
        async with pool.acquire() as connection:
            try:
                with contextlib.suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                    await connection.execute(f"CREATE ROLE {ROLE} NOLOGIN")
                async with connection.transaction():
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", 0x6C756E74_07)
                    await connection.execute(_GRANT)
            except asyncpg.InsufficientPrivilegeError:
                return False
    return True


@contextlib.asynccontextmanager
async def in_role(connection: Connection) -> AsyncIterator[None]:
    """Inside a transaction: statements of the block can reach invoices and nothing else, where there is the role."""
    has_role = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1 AND pg_has_role(oid, 'MEMBER')"
        " AND has_schema_privilege(oid, 'billing', 'USAGE'))",
        ROLE,
    )
    if has_role:
        await connection.execute(f"SET LOCAL ROLE {ROLE}")
    try:
        yield
    finally:
        if has_role:
            with contextlib.suppress(asyncpg.InFailedSQLTransactionError):
                await connection.execute("RESET ROLE")


async def issue(  # noqa: PLR0913 -- one value per column
    pool: Pool,
    account_id: int,
    number: str,
    recipient: str,
    country: str,
    amount: Decimal,
    currency: str,
    on: date,
    *,
    month: date | None = None,
) -> Invoice:
    """Write an invoice down, for the statement of a `month` or for something else.

    RefusedError: the number is taken, the month is not closed, or something of it cannot be.
    """
    with store_errors("write the invoice"):
        try:
            async with pool.acquire() as connection, connection.transaction():
                if month is not None and not await connection.fetchval(_IS_CLOSED, account_id, month):
                    raise RefusedError(
                        "The month is not closed; first run `luntrex-proxy billing close`.", "not_closed"
                    )
                async with in_role(connection):
                    (row,) = await connection.fetch(
                        _INSERT,
                        number, account_id, recipient, country, amount, currency, on, keep_until(country, on),
                        month,
                    )  # fmt: skip
                await audit.record(connection, "invoice.issued", number, account_id, {"country": country})
        except asyncpg.UniqueViolationError:
            raise RefusedError("An invoice of this number exists already.", "name_taken") from None
        except asyncpg.CheckViolationError:
            raise RefusedError(
                "An invoice needs a number, a recipient, a country of two capital letters and a currency of three."
            ) from None
    return Invoice(**dict(row))


async def pay(pool: Pool, number: str, on: date) -> Invoice:
    """Note that an invoice was paid. An unknown number raises RefusedError."""
    with store_errors("note the payment"):
        async with pool.acquire() as connection, connection.transaction():
            async with in_role(connection):
                row = await connection.fetchrow(
                    _PAY,
                    number,
                    on,
                )
            if row is None:
                raise RefusedError("There is no invoice of this number.")
            await audit.record(connection, "invoice.paid", number, row["account_id"])
    return Invoice(**dict(row))


async def list_page(
    pool: Pool, account_id: int | None = None, after: tuple[date, uuid.UUID] | None = None, limit: int | None = None
) -> list[Invoice]:
    """Invoices of an account, or all, the newest first, those before `after` (day of issue, id)."""
    with store_errors("list the invoices"):
        async with pool.acquire() as connection, connection.transaction(readonly=True), in_role(connection):
            rows = await connection.fetch(_PAGE, account_id, *(after or (None, None)), limit)
    return [Invoice(**dict(row)) for row in rows]


async def find(pool: Pool, *, number: str | None = None, invoice_id: uuid.UUID | None = None) -> Invoice | None:
    """The invoice of this number or id."""
    with store_errors("find the invoice"):
        async with pool.acquire() as connection, connection.transaction(readonly=True), in_role(connection):
            row = await connection.fetchrow(_ONE, number, invoice_id)
    return None if row is None else Invoice(**dict(row))


async def of_accounts(connection: Connection, account_ids: list[int]) -> list[Invoice]:
    """The invoices of these accounts, inside the caller's transaction."""
    async with in_role(connection):
        rows: list[Any] = await connection.fetch(
            _OF_ACCOUNTS,
            account_ids,
        )
    return [Invoice(**dict(row)) for row in rows]
