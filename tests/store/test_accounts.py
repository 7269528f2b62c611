"""Accounts: made, listed, suspended and resumed; each refusal is a sentence."""

import pytest

from luntrex_proxy.store import accounts
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError


async def test_create_and_list(database: Pool) -> None:
    """Accounts come back in the order of their creation, active."""
    first = await accounts.create(database, "acme")
    second = await accounts.create(database, "Widgets.Inc-2_x")
    assert await accounts.list_all(database) == [first, second]
    assert first.status == "active"
    assert await accounts.find(database, "acme") == first
    assert await accounts.find(database, "nobody") is None


async def test_taken_name_is_refused(database: Pool) -> None:
    """A second account of the same name is refused without the driver's words."""
    await accounts.create(database, "acme")
    with pytest.raises(RefusedError, match="exists already; choose another name") as caught:
        await accounts.create(database, "acme")
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("name", ["", "-x", "a b", "a" * 65, "müller", "x\n", "nul\0", "'; DROP TABLE account; --"])
async def test_unusable_names_are_refused(database: Pool, name: str) -> None:
    """Names that would not survive a shell, a URL or a metric are refused with the rule."""
    with pytest.raises(RefusedError, match="An account name is 1 to 64 letters"):
        await accounts.create(database, name)
    assert await accounts.list_all(database) == []


async def test_suspend_and_resume(database: Pool) -> None:
    """Both may be repeated; each takes a change version, so that every process notices."""
    await accounts.create(database, "acme")
    assert (await accounts.suspend(database, "acme")).status == "suspended"
    assert (await accounts.suspend(database, "acme")).status == "suspended"
    assert (await accounts.resume(database, "acme")).status == "active"
    assert await database.fetchval("SELECT version FROM change_version") == 3


async def test_unknown_account(database: Pool) -> None:
    """The sentence says where to look; nothing is announced."""
    with pytest.raises(RefusedError, match="no account 'acme'; `luntrex-proxy accounts list`"):
        await accounts.suspend(database, "acme")
    assert await database.fetchval("SELECT version FROM change_version") == 0


async def test_policies(database: Pool) -> None:
    """A policy is read strictly and whole; each change takes a version, and the default comes back."""
    await accounts.create(database, "acme")
    words = "region=eu,ch; retention=abuse_monitoring:30; training=never"
    assert (await accounts.set_policy(database, "acme", words)).policy == words
    assert (await accounts.find(database, "acme")) == await accounts.get(database, "acme")
    assert (await accounts.set_policy(database, "acme", None)).policy is None
    assert await database.fetchval("SELECT version FROM change_version") == 2
    for bad in ("", "region=eu", "retention=none", "training=never", "retention=none; training=maybe",
                "retention=none:3; training=never", "retention=none; training=never; x=y"):  # fmt: skip
        with pytest.raises(RefusedError, match="A policy reads like"):
            await accounts.set_policy(database, "acme", bad)
    with pytest.raises(RefusedError, match="no account 'nobody'"):
        await accounts.set_policy(database, "nobody", words)
    assert await database.fetchval("SELECT version FROM change_version") == 2
