"""Routes of accounts in their table: changed, listed, followed; and gone with the account."""

import pytest

from luntrex_proxy.core.accountroutes import AccountRoutes, OwnTarget
from luntrex_proxy.store import accountroutes, accounts, audit, maintenance
from luntrex_proxy.store.accountroutes import RouteBook
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.maintenance import MaintenanceBook

OWN = AccountRoutes(("m", "n*"), {"m": (OwnTarget("a", "x", 3), OwnTarget("b", "y", 0))})


async def test_changes_are_followed(database: Pool) -> None:
    """What was changed is read, and nothing when nothing was; an account's end ends its routes."""
    account = await accounts.create(database, "acme")
    book = RouteBook(database)
    assert await book.refresh()
    assert book.routes == {}
    assert await accountroutes.change(database, "acme", lambda before: OWN if before.is_nothing else before) == OWN
    assert await book.refresh()
    assert book.routes == {account.account_id: OWN}
    known = book.routes
    assert not await book.refresh()
    assert book.routes is known
    assert await book.refresh(readings=2), "the database may be another one"
    (listed,) = await accountroutes.list_all(database)
    assert (listed.account, listed.routes) == ("acme", OWN)
    await accountroutes.change(database, "acme", lambda _: AccountRoutes())
    assert await book.refresh(2)
    assert (book.routes, await accountroutes.list_all(database)) == ({}, [])
    await accountroutes.change(database, "acme", lambda _: OWN)
    await database.execute("DELETE FROM account")
    assert await book.refresh(2)
    assert book.routes == {}
    assert [entry.act for entry in await audit.newest(database, 3)] == ["routes.changed"] * 3


async def test_what_cannot_be_changes_nothing(database: Pool) -> None:
    """Contradictions, and accounts that are not there."""
    await accounts.create(database, "acme")
    await accountroutes.change(database, "acme", lambda _: OWN)
    with pytest.raises(RefusedError, match="The account may not use m"):
        await accountroutes.change(database, "acme", lambda before: AccountRoutes(("n",), before.targets))
    for name in ("nobody", "no name"):
        with pytest.raises(RefusedError, match="There is no account"):
            await accountroutes.change(database, name, lambda before: before)
    assert (await accountroutes.list_all(database))[0].routes == OWN


async def test_what_only_a_later_release_can_read_hides_nothing(database: Pool) -> None:
    """The models that are allowed still are, and other accounts' routes are read."""
    account = await accounts.create(database, "acme")
    await accountroutes.change(database, "acme", lambda _: OWN)
    await database.execute("""UPDATE account_route SET targets = '{"m": {"later": 1}}', version = version + 1""")
    book = RouteBook(database)
    await book.refresh()
    assert book.routes == {account.account_id: AccountRoutes(OWN.models)}


async def test_maintenance_is_followed(database: Pool) -> None:
    """On and off; a reason that is too long is refused."""
    book = MaintenanceBook(database)
    await maintenance.begin(database, "a", "disks")
    await maintenance.begin(database, "b")
    await book.refresh()
    assert book.upstreams == {"a", "b"}
    assert (await maintenance.list_all(database))["a"].reason == "disks"
    assert await maintenance.end(database, "a")
    assert not await maintenance.end(database, "a")
    await book.refresh()
    assert book.upstreams == {"b"}
    with pytest.raises(RefusedError, match="at most 200"):
        await maintenance.begin(database, "c", "x" * 201)
