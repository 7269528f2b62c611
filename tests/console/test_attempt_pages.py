"""The page of security events, without a script."""

import time
import uuid

from luntrex_proxy.store.attempts import AttemptBook
from luntrex_proxy.store.database import Pool
from tests.console.test_installation_pages import operator
from tests.console.test_pages import Open, ada_in, opened, services_behind
from tests.people import PASSWORD, give_password, make_person
from tests.store.test_erasing import key_of

__all__ = ["opened"]


async def test_refusals_of_an_accounts_keys(opened: Open, database: Pool) -> None:
    """The newest first and page by page; of another account's keys nothing; for who may see keys."""
    browser, _ = await ada_in(opened)
    path = "/accounts/1/attempts"
    assert "No request with a key of this account was refused" in (await browser.get(path)).said
    bob = await make_person(database, "bob@example.org", acme="developer", beta="owner")
    own, other = await key_of(database, "acme", "ci"), await key_of(database, "beta", "x")
    book = AttemptBook(uuid.uuid4())
    for number in range(120):
        book.note(f"10.0.{number}.0/24", "key_wrong", own)
    book.note("local", "key_revoked", own)
    book.note("10.9.9.0/24", "key_wrong", other)
    assert await book.write(database)
    seen = await browser.get(path)
    assert "key wrong ci 10.0.99.0/24 1" in seen.said
    assert "this machine" in seen.said or "Older" in seen.said
    assert (seen.text.count("<tr>"), "10.9.9.0" in seen.said) == (101, False)
    older = seen.text.partition('">Older</a>')[0].rpartition('href="')[2].replace("&amp;", "&")
    seen = await browser.get(older)
    assert (seen.status, seen.text.count("<tr>"), "Newest" in seen.said) == (200, 22, True)
    for word in ("x", "~~~", f"{time.time()}~~~", "2027-01-31~a~b~c", "2027-01-31T00:00:00%2B00:00~%00~b~c"):
        assert (await browser.get(f"{path}?after={word}")).status == 200
    seen = await (await operator(browser)).get("/attempts")
    assert f"key wrong lx_{own}_… of acme 10.0.99.0/24" in seen.said, "who runs the installation sees all"
    await give_password(services_behind(browser), bob)
    browser.jar = {}
    await browser.get("/sign-in")
    await browser.send("/sign-in", address="bob@example.org", password=PASSWORD)
    assert (await browser.get(path)).status == 403
