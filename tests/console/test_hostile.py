"""Every operation with invalid, foreign, stale, duplicate, oversized and hostile input: a clear message, no effect.

The inputs are generated from the declarations and matrix.py's rows, so a new operation is tested when it has its row.
Each refusal must be a problem that says what to do, quote nothing of what was sent, and leave every table as it was.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from luntrex_proxy.console.api.operations import PARAMETERS, Operation, Who
from luntrex_proxy.console.api.problems import PROBLEMS
from luntrex_proxy.console.api.resources import OPERATIONS
from luntrex_proxy.core.roles import Role
from luntrex_proxy.store.database import close_pool, open_pool
from tests.console.conftest import Answer, running_api
from tests.console.matrix import ROWS, Caller, World, contents, make_world
from tests.postgres import migrated_database

pytestmark = pytest.mark.asyncio(loop_scope="module")
CANARY = "CANARY7f3a-too-long-for-a-mistyped-name"
HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 2**70, 1.5, [], {}, [[]], {"a": 1}, "", " ", "\0", "\ud7ff\uffff", "\u202e", "é" * 70_0),
    *(f"{CANARY}'; DROP TABLE account; --", f"<script>{CANARY}</script>", f"../../{CANARY}", f"{CANARY}\r\nX: 1"),
    *(f"lx_{CANARY}", f"{{{{7*7}}}}{CANARY}", f"%s%n{CANARY}", f"${{jndi:ldap://{CANARY}}}", CANARY * 1_000),
    *([CANARY], {CANARY: CANARY}, [f"{CANARY}\0"] * 3, "9999-12-31T23:59:59-23:59", "NaN"),
)
BODIES = (  # raw bodies that are no JSON object, or not everybody's idea of one
    *(b"", b"{", b"[]", b"null", b'"' + CANARY.encode() + b'"', b"\xff\xfe{}", b"\xef\xbb\xbf{}", b'{"a":1,"a":2}'),
    *(b'{"a":NaN}', b'{"a":' + b"[" * 40 + b"]" * 40 + b"}", b'{"a":"\\ud800"}', b'{"a":1' + b"0" * 5_000 + b"}"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(postgres_dsn: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """One for all: nothing in it may change."""
    directory: Path = tmp_path_factory.mktemp("state")
    async with migrated_database(postgres_dsn) as dsn:
        pool = await open_pool(dsn)
        async with running_api(pool, directory) as api:
            yield await make_world(api)
        await close_pool(pool)


def _able(world: World, operation: Operation) -> Caller:
    """Somebody who may do it: what is refused is refused for what was sent."""
    row = ROWS[operation.name]
    if row.who is Who.OPERATOR:
        return next(each for each in world.callers if each.operator and bool(each.token) is row.by_token)
    return next(each for each in world.callers if each.session and each.role is Role.OWNER)


def _sayings(answer: Answer) -> str:
    """What is wrong with an answer as a refusal; "" for nothing."""
    if answer.headers["Content-Type"] != "application/problem+json" or answer.code not in PROBLEMS:
        return "no problem of ours"
    body = answer.body
    if body["status"] != answer.status or not body["detail"].endswith(".") or not body["title"]:
        return "no clear message"
    if answer.code == "invalid" and not all(error["message"] for error in body["errors"]):
        return "no word about the field"
    return "it quotes" if CANARY.encode() in answer.raw else ""


def _by_method(operations: tuple[Operation, ...]) -> Any:
    return pytest.mark.parametrize("operation", operations, ids=lambda operation: operation.name)


def _wrong_bodies(good: dict[str, Any], operation: Operation) -> Iterator[dict[str, Any]]:
    """The good body with one thing wrong, or two."""
    assert operation.body is not None
    yield good | {CANARY: 1}
    yield good | {"Name": "x", "__proto__": {}, "": 1}
    for name, field in operation.body.model_fields.items():
        for value in HOSTILE:
            yield good | {name: value}
        if field.is_required():
            yield {each: good[each] for each in good if each != name}


@_by_method(tuple(each for each in OPERATIONS if each.body))
async def test_hostile_bodies_do_nothing(world: World, operation: Operation) -> None:
    """Each field with each hostile value, unknown and missing fields, what is no JSON, too much of it, another type."""
    row, caller = ROWS[operation.name], _able(world, operation)
    place = {"account_id": str(world.account)} | await row.place(world, world.account, caller)
    assert row.body is not None
    tries = [("wrong", orjson.dumps(body, option=0) if 2**70 not in body.values() else _big(body), "application/json")
             for body in _wrong_bodies(row.body(), operation)]  # fmt: skip
    tries += [("no JSON", raw, "application/json") for raw in BODIES]
    tries += [
        ("oversized", b'{"a":"' + b"x" * 66_000 + b'"}', "application/json"),
        ("another type", orjson.dumps(row.body()), "text/plain"),
        ("another charset", orjson.dumps(row.body()), "application/json; charset=utf-16"),
        ("a form", b"name=x", "application/x-www-form-urlencoded"),
    ]
    before, accepted = await contents(world.api.pool), []
    for kind, raw, content_type in tries:
        answer = await world.ask(caller, operation, place, data=raw, headers={"Content-Type": content_type})
        if answer.status < 400 and kind == "wrong":
            accepted.append(raw)
            place |= await row.place(world, world.account, caller)
            before = await contents(world.api.pool)
            continue
        assert 400 <= answer.status < 500, (kind, raw[:200], answer.raw)
        assert not (said := _sayings(answer)), (said, kind, raw[:200], answer.raw)
    assert await contents(world.api.pool) == before
    # Only what the model itself takes to be good may have been done.
    for raw in accepted:
        assert operation.body is not None
        operation.body.model_validate_json(raw)


def _big(body: dict[str, Any]) -> bytes:
    """orjson knows 64 bits only."""
    big = {name: value for name, value in body.items() if value == 2**70}
    return orjson.dumps(body | dict.fromkeys(big, "BIG")).replace(b'"BIG"', str(2**70).encode())


@_by_method(OPERATIONS)
async def test_hostile_addresses_do_nothing(world: World, operation: Operation) -> None:
    """Ids that are unknown or none, queries nobody knows, cursors of others, methods that are not there."""
    row, caller = ROWS[operation.name], _able(world, operation)
    place = {"account_id": str(world.account)} | await row.place(world, world.account, caller)
    body = {} if row.body is None else {"json": row.body()}
    before = await contents(world.api.pool)
    for part in re.findall(r"{(\w+)}", operation.path):
        unknown = {"account_id": "987654321", "purpose": "nothing"}.get(part) or re.sub("[0-9a-zA-Z]", "0", place[part])
        for value in (unknown, CANARY, "0", "-1", "1e3", "%00", "%2e%2e", "%F0%9F%98%80", "x" * 3_000, "9" * 30, "'--"):
            if re.fullmatch(PARAMETERS[part][0], value) and value != unknown:
                continue
            answer = await world.ask(caller, operation, place | {part: value}, **body)
            assert answer.status == 404, (part, value, answer.raw)
            assert not _sayings(answer), (part, value, answer.raw)
    path = operation.path.format_map(place)
    queries = [f"{CANARY}=1", f"a={CANARY}", "%00=%00", "a=1&a=2"]
    if operation.query is not None:
        for name in operation.query.model_fields:
            queries += [
                f"{name}={CANARY}%27",
                f"{name}=",
                f"{name}=%00",
                f"{name}=1&{name}=2",
                f"{name}=-99999999999999999999",
            ]
    for query in queries:
        answer = await _send(world, caller, operation.method, f"{path}?{query}", **body)
        assert answer.status in (400, 422), (query, answer.raw)
        assert not _sayings(answer), (query, answer.raw)
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - {
        each.method for each in OPERATIONS if each.path == operation.path
    }:
        answer = await _send(world, caller, method, path, **body)
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        assert operation.method in answer.headers["Allow"]
    picky = await _send(world, caller, operation.method, path, headers={"Accept": "text/html"}, **body)
    assert (picky.status, picky.code) == (406, "not_acceptable")
    assert await contents(world.api.pool) == before


async def _send(world: World, caller: Caller, method: str, path: str, **more: Any) -> Answer:
    return await world.api.ask(method, path, token=caller.token, session=caller.session, **more)


@_by_method(tuple(each for each in OPERATIONS if each.changes and each.access is not Who.ANYONE))
async def test_another_site_does_nothing_with_a_session(world: World, operation: Operation) -> None:
    """A page of another origin, of a neighbour, or what no browser says: the cookie alone changes nothing."""
    row = ROWS[operation.name]
    operator = row.who is Who.OPERATOR
    caller = next(each for each in world.callers if each.session and each.operator is operator)
    place = {"account_id": str(world.account)} | await row.place(world, world.account, caller)
    before = await contents(world.api.pool)
    cookie = {"Cookie": f"luntrex={caller.session}"}
    for said in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": world.api.url.removesuffix("/api/v1")},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ):
        body = row.body and row.body()
        answer = await world.api.ask(
            operation.method, operation.path.format_map(place), json=body, headers=cookie | said
        )
        assert (answer.status, answer.code) == (403, "cross_site"), said
    assert await contents(world.api.pool) == before


@_by_method(tuple(each for each in OPERATIONS if each.conditional))
async def test_a_stale_or_senseless_etag_changes_nothing(world: World, operation: Operation) -> None:
    """Who has not seen the present state does not overwrite it."""
    row, caller = ROWS[operation.name], _able(world, operation)
    place = {"account_id": str(world.account)} | await row.place(world, world.account, caller)
    before = await contents(world.api.pool)
    for etag, status in (
        ('"999999999"', 412),  # none that is or was; "0" is that of an account as it was made
        (f'"{CANARY}"', 412),
        (CANARY, 400),
        ('W/"1"', 400),
        ('""', 400),
        ('"1", "2"', 400),
    ):
        answer = await world.ask(caller, operation, place, json=row.body and row.body(), headers={"If-Match": etag})
        assert answer.status == status, (etag, answer.raw)
        assert not _sayings(answer), (etag, answer.raw)
    assert await contents(world.api.pool) == before


@_by_method(tuple(each for each in OPERATIONS if each.makes))
async def test_a_creation_sent_twice_makes_one_thing(world: World, operation: Operation) -> None:
    """At once or later: the same thing, or its id where a secret went with it. Another body, a bad key: refused."""
    row, caller = ROWS[operation.name], _able(world, operation)
    place = {"account_id": str(world.account)} | await row.place(world, world.account, caller)
    assert row.body is not None
    body, once = row.body(), {"Idempotency-Key": f"once-{operation.name}"}
    first = await asyncio.gather(*(world.ask(caller, operation, place, json=body, headers=once) for _ in range(4)))
    (made,) = [each for each in first if each.status == 201 and "Idempotency-Replayed" not in each.headers]
    assert {each.body["id"] for each in first} == {made.body["id"]}, first
    before = await contents(world.api.pool)
    again = await world.ask(caller, operation, place, json=body, headers=once)
    if operation.replay is None:
        assert (again.status, again.code, again.body["id"]) == (409, "made_already", made.body["id"])
    else:
        assert (again.status, again.headers["Idempotency-Replayed"], again.body["id"]) == (201, "true", made.body["id"])
    other = await world.ask(caller, operation, place, json=_other(row.body(), body), headers=once)
    assert (other.status, other.code) == (422, "reused_idempotency_key")
    for bad in ("", " ", f"{CANARY} x", "x" * 129, "é"):
        answer = await world.ask(caller, operation, place, json=row.body(), headers={"Idempotency-Key": bad})
        assert (answer.status, answer.code) == (400, "bad_idempotency_key"), bad
    assert await contents(world.api.pool) == before


def _other(body: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    """A good body that is not the first one."""
    return body if body != first else body | {"overlap_s": 1}
