"""/accounts/{account_id}/invoices: what is written down, to the cent, for whom it concerns."""

import datetime
from decimal import Decimal

from luntrex_proxy.core.roles import Role
from luntrex_proxy.store import billing
from tests.console.conftest import Api


async def test_invoices_of_an_account(api: Api) -> None:
    """Newest first, in pages, one by its id; another account's are not there."""
    account, other = await api.account("acme"), await api.account("other")
    for number, day, whose in (("A-1", 1, account), ("A-2", 3, account), ("A-3", 2, account), ("B-1", 9, other)):
        on = datetime.date(2026, 1, day)
        await billing.issue(api.pool, whose, number, "Acme", "DE", Decimal("12345678901234567890.10"), "EUR", on)
    await billing.pay(api.pool, "A-2", datetime.date(2026, 2, 1))
    token, path = await api.token(await api.person({account: Role.BILLING})), f"/accounts/{account}/invoices"
    first = (await api.ask("GET", f"{path}?limit=2", token=token)).body
    rest = (await api.ask("GET", f"{path}?limit=2&cursor={first['next_cursor']}", token=token)).body
    found = [*first["items"], *rest["items"]]
    assert [each["number"] for each in found] == ["A-2", "A-3", "A-1"]
    one = (await api.ask("GET", f"{path}/{found[0]['id']}", token=token)).body
    assert one == found[0]
    assert (one["amount"], one["paid_on"], one["keep_until"]) == ("12345678901234567890.10", "2026-02-01", "2034-12-31")
    theirs = await api.pool.fetchval("SELECT invoice_id FROM billing.invoice WHERE number = 'B-1'")
    assert (await api.ask("GET", f"{path}/{theirs}", token=token)).status == 404
