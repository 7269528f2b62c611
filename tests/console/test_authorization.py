"""The authorization matrix: every operation x every role x own and foreign account x operator, by matrix.py's table.

Each call is valid but for who sends it. Asserted: the status, and for refused calls that no table changed.
"""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from luntrex_proxy.console.api.operations import Operation, Who
from luntrex_proxy.console.api.resources import OPERATIONS
from luntrex_proxy.control import consents
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.store.database import close_pool, open_pool
from tests.console.conftest import running_api
from tests.console.matrix import BY_MAIL, ROWS, Caller, Row, World, a_used_request, contents, make_world
from tests.postgres import migrated_database

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for all operations: whatever they do, nobody's roles change by it."""
    directory: Path = tmp_path_factory.mktemp("state")
    async with migrated_database(postgres_dsn) as dsn:
        pool = await open_pool(dsn)
        async with running_api(pool, directory, **BY_MAIL) as api:
            yield await make_world(api)
        await close_pool(pool)


async def test_every_operation_has_a_row() -> None:
    """Who adds an operation says who may use it; who takes one away takes its row."""
    assert sorted(ROWS) == sorted(operation.name for operation in OPERATIONS)


def _expected(operation: Operation, row: Row, caller: Caller, *, own: bool) -> int:
    """The status by the row, and nothing else. 0: it is done."""
    if row.who is Who.ANYONE:
        return 0
    if not caller.person_id:
        return 401
    if row.who is Who.OPERATOR:
        may = caller.operator and _covered(operation, caller) and (row.by_token or caller.session is not None)
        return 0 if may else 403
    if row.who is Who.SIGNED_IN:
        return 403 if caller.session is None else 0
    if row.who is Who.PERSON:
        return 0
    if caller.operator:
        return 0 if row.operator and _covered(operation, caller) else 403
    role = caller.role if own else caller.foreign_role
    if role is None or (role in row.hidden_from and _covered(operation, caller)):
        return 404
    return 0 if role in row.who and _covered(operation, caller) else 403


def _covered(operation: Operation, caller: Caller) -> bool:
    return caller.scopes is None or bool(caller.scopes & set(_needs(operation)))


def _needs(operation: Operation) -> tuple[Permission, ...]:
    return operation.access if isinstance(operation.access, tuple) else operation.scopes


def _done(operation: Operation) -> int:
    return 201 if operation.makes else 200 if operation.answer else 204


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
async def test_who_may(world: World, operation: Operation) -> None:
    """Refused calls first, on one thing that is there; then each allowed one, on a thing of its own."""
    row = ROWS[operation.name]
    callers = list(world.callers)
    if needs := _needs(operation):
        callers += [
            await world.narrowed(each, needs) for each in world.callers if each.token and each.name != "stranger"
        ]
    for own in (True, False) if "{account_id}" in operation.path else (True,):
        account = world.account if own else world.foreign
        expected = {caller: _expected(operation, row, caller, own=own) for caller in callers}
        refused = {caller: status for caller, status in expected.items() if status}
        places = {caller: {"account_id": str(account)} | await row.place(world, account, caller) for caller in refused}
        before = await contents(world.api.pool)
        for caller, status in refused.items():
            body = row.body and row.body()
            answer = await world.ask(caller, operation, places[caller], json=body)
            assert answer.status == status, (caller.name, own, answer.raw)
        assert await contents(world.api.pool) == before, f"a refused call changed something; own: {own}"
        for caller in callers:
            if caller not in refused:
                place = {"account_id": str(account)} | await row.place(world, account, caller)
                answer = await world.ask(caller, operation, place, json=row.body and row.body())
                assert answer.status == _done(operation), (caller.name, own, answer.raw)


async def test_a_members_single_request_is_the_members(world: World) -> None:
    """Nobody else finds it, by whatever role; with the account's consent owners do, and nobody else's rights change."""
    operation = next(each for each in OPERATIONS if each.name == "usage.request")
    row, bob = ROWS[operation.name], Caller("bob", await world.api.person({world.account: Role.DEVELOPER}))
    place = {"account_id": str(world.account)} | await a_used_request(world, world.account, bob)
    narrowed = [await world.narrowed(each, (Permission.USAGE_MEMBERS,)) for each in world.callers if each.token]
    callers = [*world.callers, *narrowed]
    statuses = [_expected(operation, row, caller, own=True) or 404 for caller in callers]
    for agreed in (False, True):
        if agreed:
            await consents.give(world.api.pool, world.account, consents.Purpose.MEMBER_REQUESTS)
            await world.api.pool.execute("UPDATE consent SET given_at = '2026-01-01'")
        before = await contents(world.api.pool)
        for caller, status in zip(callers, statuses, strict=True):
            if agreed and caller.role is Role.OWNER and caller not in narrowed:
                continue
            assert (await world.ask(caller, operation, place)).status == status, (caller.name, agreed)
        after = await contents(world.api.pool)
        changed = {table for table in before if before[table] != after[table]}
        assert changed <= {"audit_entry", "audit_head"}, "of operators a trace at most"
    owners = [each for each in world.callers if each.role is Role.OWNER]
    assert [(await world.ask(each, operation, place)).status for each in owners] == [200] * len(owners)
    await consents.withdraw(world.api.pool, world.account, consents.Purpose.MEMBER_REQUESTS)


@pytest.mark.parametrize(
    "operation",
    [each for each in OPERATIONS if each.path.startswith("/accounts/") and each.path.count("_id}") == 2],
    ids=lambda operation: operation.name,
)
async def test_one_accounts_things_are_not_found_in_another(world: World, operation: Operation) -> None:
    """Who may do everything in one account cannot reach into another by naming its own in the path."""
    row = ROWS[operation.name]
    for caller in world.callers:
        by_role = caller.role in (row.who if isinstance(row.who, frozenset) else ())
        if not (row.operator if caller.operator else by_role):
            continue
        place = {"account_id": str(world.account)} | await row.place(world, world.foreign, caller)
        before = await contents(world.api.pool)
        answer = await world.ask(caller, operation, place, json=row.body and row.body())
        assert (answer.status, answer.code) == (404, "not_found"), caller.name
        after = await contents(world.api.pool)
        changed = {table for table in before if before[table] != after[table]}
        assert not changed or (caller.operator and not operation.changes and changed <= {"audit_entry", "audit_head"})


@pytest.mark.parametrize(
    "operation", [each for each in OPERATIONS if each.path.startswith("/me/") and "{" in each.path],
    ids=lambda operation: operation.name,
)  # fmt: skip
async def test_ones_own_things_are_not_anothers(world: World, operation: Operation) -> None:
    """Another person's token or session does not exist."""
    row = ROWS[operation.name]
    someone, other = (each for each in world.callers if each.session and not each.operator)
    place = await row.place(world, world.account, other)
    before = await contents(world.api.pool)
    answer = await world.ask(someone, operation, place, json=row.body and row.body())
    assert (answer.status, answer.code) == (404, "not_found")
    assert await contents(world.api.pool) == before
