"""Accounts: who keys and usage belong to. Made, suspended and resumed by who runs the installation."""

from collections.abc import Collection, Iterable

from luntrex_proxy.control.access import NotFoundError, Person
from luntrex_proxy.core.consents import PROVIDER_RETENTION_BIT, TRAINING_BIT, routing_bits
from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.roles import Permission
from luntrex_proxy.store import accounts as table
from luntrex_proxy.store.accounts import Account
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import RefusedError

__all__ = [
    "Account",
    "WiderPolicyError",
    "create",
    "get",
    "id_of",
    "list_page",
    "names_of",
    "resume",
    "set_policy",
    "suspend",
]
create = table.create


class WiderPolicyError(RefusedError):
    """The policy would let upstreams do more than the installation's default."""


async def list_page(
    pool: Pool, person: Person, after: int, limit: int, *, part: str = "", status: str | None = None
) -> list[Account]:
    """The accounts a person may know of, in the order of their ids, those after `after`.

    `part`: of their names; `status`: only those.
    """
    known: Iterable[int] | None = [each for each in person.roles if person.may(each, Permission.ACCOUNT_READ)]
    if person.operator and person.in_scope(Permission.ACCOUNT_READ):
        known = None
    return await table.list_page(pool, known, after, limit, part=part, status=status)


async def get(pool: Pool, account_id: int) -> Account:
    """The account of this id; an unknown one raises NotFoundError."""
    found = await table.by_id(pool, account_id)
    if found is None:
        raise NotFoundError
    return found


async def names_of(pool: Pool, account_ids: Collection[int]) -> dict[int, str]:
    """What accounts are called, those of these that are there."""
    return {each.account_id: each.name for each in await table.by_ids(pool, account_ids)}


async def id_of(pool: Pool, name: str) -> int | None:
    """Of the account of this name; None: there is none."""
    found = await table.find(pool, name)
    return None if found is None else found.account_id


async def suspend(pool: Pool, account_id: int) -> Account:
    """Stop all keys of the account, everywhere within a second."""
    return await table.suspend(pool, (await get(pool, account_id)).name)


async def resume(pool: Pool, account_id: int) -> Account:
    """Let the account's keys work again."""
    return await table.resume(pool, (await get(pool, account_id)).name)


async def set_policy(
    pool: Pool, default: Policy, person: Person, account_id: int, policy: str | None, version: int | None
) -> Account:
    """What upstreams may do with the account's requests; None: the default. Members can only narrow it,
    except in what the account's owner agreed to. An operator's wider policy waits for that consent (core/policy.py).

    `version`: refuse when the account was changed since (ChangedError).
    """
    account = await get(pool, account_id)
    if policy is not None:
        wanted = table.checked_policy(policy)
        bits = routing_bits(account.consents)
        widest = default.relaxed(training=bool(bits & TRAINING_BIT), keeping=bool(bits & PROVIDER_RETENTION_BIT))
        if not person.operator and not wanted.is_within(widest):
            raise WiderPolicyError(
                "The policy is wider than the installation's and what the account's owner agreed to.", "wider_policy"
            )
    return await table.set_policy(pool, account.name, policy, version=version)
