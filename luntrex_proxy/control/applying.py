"""Bringing accounts, members and keys to what a file says, all or nothing: compared and done in one transaction."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from luntrex_proxy.core.budgets import PERIODS
from luntrex_proxy.core.declared import Account, Change, Fault, Present, compare
from luntrex_proxy.store import accounts, apikeys, budgets, labels, limits, members, people
from luntrex_proxy.store.apikeys import BCRYPT_COST, NewKey, PreparedKey
from luntrex_proxy.store.changes import hold_changes
from luntrex_proxy.store.database import Connection, Pool, store_errors
from luntrex_proxy.store.errors import RefusedError
from luntrex_proxy.store.joined import joined
from luntrex_proxy.store.keyrows import Terms
from luntrex_proxy.store.pepper import Lookup
from luntrex_proxy.store.present import present

__all__ = ["Change", "ImpossibleError", "NewKey", "bring_about"]
_CHEAP: Final = 4  # bcrypt of keys that nobody gets


class ImpossibleError(Exception):
    """What the file wants cannot be; nothing was changed."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(fault.sentence for fault in faults))
        self.faults = tuple(faults)


@dataclass(slots=True)
class _Work:
    """What one run has at hand and brings about."""

    pool: Pool
    lookup: Lookup
    prepared: list[PreparedKey]
    made: dict[tuple[str, str], NewKey] = field(default_factory=dict)  # by account and name


async def bring_about(
    pool: Pool,
    lookup: Lookup,
    wanted: tuple[Account, ...],
    now: datetime,
    *,
    dry_run: bool = False,
    bcrypt_cost: int = BCRYPT_COST,
) -> tuple[list[Change], dict[tuple[str, str], NewKey]]:
    """What was done, and the keys that were made by account and name. ImpossibleError, RefusedError: nothing was.

    A dry run does everything and takes it back, so that it is refused by what a real one would be refused by.
    """
    with store_errors("compare the accounts"):
        async with pool.acquire() as connection:
            changes = _compared(wanted, await _present(connection, wanted), now)
    # Before others have to wait for us: bcrypt takes its time.
    wishes = 0 if dry_run else sum(change.act == "key.created" for change in changes)
    prepared = [await apikeys.prepare(lookup, bcrypt_cost) for _ in range(wishes)]
    with store_errors("apply the file"):
        async with pool.acquire() as connection, _transaction(connection, keep=not dry_run):
            await hold_changes(connection)
            work = _Work(joined(connection), lookup, prepared)
            changes = _compared(wanted, await _present(connection, wanted), now)
            for change in changes:
                await _do(work, change, bcrypt_cost=_CHEAP if dry_run else bcrypt_cost)
    return changes, {} if dry_run else work.made


@contextlib.asynccontextmanager
async def _transaction(connection: Connection, *, keep: bool) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    except BaseException:
        await transaction.rollback()
        raise
    await (transaction.commit() if keep else transaction.rollback())


def _compared(wanted: tuple[Account, ...], there: Present, now: datetime) -> list[Change]:
    changes, faults = compare(wanted, there, now)
    if faults:
        raise ImpossibleError(faults)
    return changes


async def _present(connection: Connection, wanted: tuple[Account, ...]) -> Present:
    addresses = {email for account in wanted for email in account.members}
    keys = {key.name for account in wanted for key in account.keys}
    return await present(connection, [account.name for account in wanted], addresses, keys)


async def _do(work: _Work, change: Change, bcrypt_cost: int) -> None:
    """One change. What refuses it is said with its place."""
    try:
        subject, _, verb = change.act.partition(".")
        if verb in ("limits_set", "budgets_set"):
            await _allow(work, verb, change)
        elif subject == "account":
            await _do_account(work.pool, verb, change)
        elif subject == "label":
            await labels.declare(work.pool, change.account, change.name, change.allowed)
        elif subject == "member":
            await _do_member(work.pool, change)
        elif verb == "created":
            await _make_key(work, change, bcrypt_cost)
        else:
            await _change_key(work, verb, change)
    except RefusedError as error:
        raise ImpossibleError([Fault(change.loc, str(error))]) from None


async def _do_account(pool: Pool, verb: str, change: Change) -> None:
    if verb == "created":
        await accounts.create(pool, change.account)
    elif verb == "policy_set":
        await accounts.set_policy(pool, change.account, change.after)
    elif verb == "suspended":
        await accounts.suspend(pool, change.account)
    elif verb == "time_zone_set":
        await budgets.set_time_zone(pool, change.account, change.after or "")
    else:
        await accounts.resume(pool, change.account)


async def _allow(work: _Work, verb: str, change: Change) -> None:
    """Exactly these limits or budgets, of the account or of a key."""
    made = work.made.get((change.account, change.name)) if change.name else None
    key_id = change.key_id if made is None else made.info.key_id
    if verb == "limits_set":
        await (
            limits.have_of_key(work.pool, key_id, change.limits)
            if change.name
            else limits.have_of_account(work.pool, change.account, change.limits)
        )
        return
    whose = await (
        budgets.whose_key(work.pool, key_id) if change.name else budgets.whose_account(work.pool, change.account)
    )
    terms = {
        period: budgets.Terms(each.is_hard, each.alert_percents, each.when_away)
        for period, each in change.budgets.items()
    }
    amounts = {period: each.amount_pico for period, each in change.budgets.items()}
    await budgets.change(work.pool, whose, amounts, terms, cleared=PERIODS)


async def _do_member(pool: Pool, change: Change) -> None:
    account = await accounts.get(pool, change.account)
    person = await people.find(pool, change.name)
    if change.after is None:
        await members.remove(pool, account.account_id, person.person_id)
        return
    async with pool.acquire() as connection, connection.transaction():
        await members.put(connection, account.account_id, person.person_id, change.after)


async def _make_key(work: _Work, change: Change, bcrypt_cost: int) -> None:
    key = change.key
    assert key is not None  # noqa: S101 -- compare() gives one with every change of a key
    terms = Terms(key.not_before, key.expires_at, key.scope)
    person = await people.find(work.pool, key.owner) if isinstance(key.owner, str) else None
    work.made[change.account, key.name] = await apikeys.create(
        work.pool,
        work.lookup,
        change.account,
        key.name,
        terms,
        person_id=None if person is None else str(person.person_id),
        bcrypt_cost=bcrypt_cost,
        prepared=work.prepared.pop() if work.prepared else None,
    )


async def _change_key(work: _Work, verb: str, change: Change) -> None:
    made = work.made.get((change.account, change.name))
    key_id = change.key_id if made is None else made.info.key_id
    if verb == "limited":
        assert change.key is not None  # noqa: S101 -- as above
        await apikeys.limit(work.pool, key_id, change.key.scope, change.key.kinds)
    elif verb == "labelled":
        await labels.of_key(work.pool, key_id, change.labels)
    elif verb == "revoked":
        await apikeys.revoke(work.pool, key_id)
    elif verb == "suspended":
        await apikeys.suspend(work.pool, key_id)
    else:
        await apikeys.resume(work.pool, key_id)
