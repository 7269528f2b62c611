"""The pages of bills: months with their lines, as CSV, closed by who runs the installation, and invoices."""

import csv
import datetime
import io
import random
import time
from decimal import Decimal
from pathlib import Path

from luntrex_proxy.store import billing, statements
from luntrex_proxy.store.database import Pool
from tests.console.browsing import Browser
from tests.console.test_pages import ADA, Open, opened, services_behind
from tests.people import PASSWORD, give_password, make_person
from tests.store.months import make_keys, rates_of, records, store

__all__ = ["opened"]


async def test_months_and_invoices(opened: Open, database: Pool, tmp_path: Path) -> None:
    """An account's own, to the last digit in the CSV; only who runs it closes a month, and one that is over."""
    browser = await opened()
    services = services_behind(browser)
    seed = random.Random(12)
    keys, rates = await make_keys(database, ("acme", "bolt")), rates_of(seed)
    await store(database, tmp_path, records(seed, keys, rates, 60))
    account_id, other = keys[0][0], keys[-1][0]
    ada = await make_person(database, ADA, acme="billing")
    await give_password(services, ada)
    await billing.issue(
        database, account_id, "A-1", "<b>Acme</b>", "DE", Decimal("12345678.10"), "EUR", datetime.date(2026, 10, 2)
    )
    await browser.send("/sign-in", address=ADA, password=PASSWORD)
    base = f"/accounts/{account_id}/billing"
    seen = await browser.get(base)
    assert "A-1 2026-10-02 no single month" in seen.said
    assert "&lt;b&gt;Acme" in seen.text
    assert "12,345,678.10 EUR to be paid" in seen.said
    this_month = datetime.datetime.fromtimestamp(time.time(), datetime.UTC).strftime("%Y-%m")
    assert f'href="{base}/{this_month}"' in seen.text

    found = await statements.get(database, "acme", datetime.date(2026, 9, 1))
    seen = await browser.get(f"{base}/2026-09")
    assert "Statement for September 2026" in seen.said
    assert "2026-09-01 to 2026-09-30, in UTC" in seen.said
    assert "not closed yet" in seen.said
    assert "Close the month" not in seen.said
    assert "project: after1" in seen.said
    answer = await browser.get(f"{base}/2026-09/lines.csv")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="statement-acme-2026-09.csv"'
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert sum(Decimal(line["cost_usd"]) for line in lines) * 10**12 == found.cost_pico > 0
    assert sum(int(line["requests"]) for line in lines) == found.requests
    await browser.get("/profile")
    assert (await browser.send(f"{base}/2026-09/close", sure="yes")).status == 404
    for path in (f"{base}/2026-13", f"{base}/x", f"{base}/2198-01", f"/accounts/{other}/billing/2026-09"):
        assert (await browser.get(path)).status == 404, path

    runs = Browser(browser.client, browser.url)
    await give_password(services, await make_person(database, "root@example.org", operator=True))
    await runs.send("/sign-in", address="root@example.org", password=PASSWORD)
    await runs.get(f"{base}/2026-09")
    assert "Say that it shall be closed" in (await runs.send(f"{base}/2026-09/close")).said
    assert "The month is closed" in (await runs.send(f"{base}/2026-09/close", sure="yes")).said
    assert (await runs.send(f"{base}/{this_month}/close", sure="yes")).status == 422
    closed = (await statements.list_page(database, account_id))[0]
    assert closed.cost_pico == found.cost_pico
    said = (await browser.get(base)).said
    assert f"September 2026 closed {closed.closed_at.date()} {closed.requests:,}" in said
