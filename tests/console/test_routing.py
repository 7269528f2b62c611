"""What every operation has in common: guessed tokens, a database that is away, mistakes of ours, HEAD."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
import structlog
from aiohttp.test_utils import make_mocked_request

from luntrex_proxy.console.api import reading, routing
from luntrex_proxy.console.api.operations import Call, Operation, Who
from luntrex_proxy.store.database import Pool
from tests.console.conftest import Answer, Api
from tests.postgres import dsn_of

WRONG = "lxp_0123456789ab_" + "0" * 49


async def test_guessing_tokens_has_to_wait(api: Api) -> None:
    """After a score of wrong ones a network waits; a token that worked before goes on, what is no token never does."""
    known, fresh = [await api.token(await api.person()) for _ in range(2)]
    assert (await api.ask("GET", "/me", token=known)).status == 200
    answers = [await api.ask("GET", "/me", token=WRONG) for _ in range(30)]
    assert [answer.code for answer in answers[:20]] == ["unauthenticated"] * 20
    assert answers[0].headers["WWW-Authenticate"].startswith("Bearer")
    assert answers[-1].code == "throttled"
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 61
    assert (await api.ask("GET", "/me", token=known)).status == 200
    assert (await api.ask("GET", "/me", token=fresh)).code == "throttled"
    for header in ("Basic YTpi", f"Bearer {known} {known}", "Bearer", "", f"Bearer lx_{known[4:]}"):
        refused = await api.ask("GET", "/me", headers={"Authorization": header})
        assert refused.status in (401, 429)
    session = await api.session(await api.person())
    both = await api.ask("GET", "/me", token=WRONG, session=session)
    assert both.status == 429  # a wrong token is not made good by a cookie


async def test_a_database_that_is_away_is_said_so(api: Api, postgres_dsn: str) -> None:
    """503 and a problem, on reading and on changing; afterwards all is as before."""
    operator = await api.token(await api.person(operator=True))
    name = await api.pool.fetchval("SELECT current_database()")
    other = await asyncpg.connect(dsn_of(postgres_dsn, "postgres"))
    await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    await other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name)
    try:
        for method, body in (("GET", None), ("POST", {"name": "acme"})):
            answer = await _patient(api, method, operator, body)
            assert (answer.status, answer.code) == (503, "unavailable"), answer.raw
    finally:
        await other.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        await other.close()
    assert (await api.ask("POST", "/accounts", token=operator, json={"name": "acme"})).status == 201


async def _patient(api: Api, method: str, token: str, body: object) -> Answer:
    return await api.ask(method, "/accounts", token=token, json=body)


async def test_a_mistake_of_ours_is_a_problem_without_its_words(database: Pool, api: Api) -> None:
    """What was wrong is in no answer; its class and our lines are in the log, its message is not."""

    async def fails(call: Call) -> None:
        raise ValueError(f"canary {call.services}")

    operation = Operation(name="x.y", method="GET", path="/me", summary="", access=Who.ANYONE, handler=fails)
    broken = routing.Api(api.services, (operation,))
    request = make_mocked_request("GET", "/api/v1/me")
    with structlog.testing.capture_logs() as said:
        answer = await broken.answer(request)
    assert answer.status == 500
    assert answer.content_type == "application/problem+json"
    assert "canary" not in str(answer.body) + str(said)
    assert [line["event"] for line in said] == ["luntrex.api_failed"]


async def test_head_is_get_without_a_body(api: Api) -> None:
    """The same headers, so that programs can look before they fetch."""
    account_id = await api.account("acme")
    token = await api.token(await api.person(operator=True))
    whole = await api.ask("GET", f"/accounts/{account_id}", token=token)
    head = await api.ask("HEAD", f"/accounts/{account_id}", token=token)
    assert (head.status, head.raw) == (200, b"")
    assert head.headers["ETag"] == whole.headers["ETag"]
    options = await api.ask("OPTIONS", f"/accounts/{account_id}", token=token)
    assert (options.status, options.headers["Allow"]) == (405, "GET, PATCH, HEAD")


async def test_a_body_without_a_length_is_bounded_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """In size and in time; nothing is made of what came."""
    token = await api.token(await api.person(operator=True))
    json = {"Content-Type": "application/json"}

    async def endless() -> AsyncIterator[bytes]:
        yield b'{"name":"acme","policy":"'
        for _ in range(80):
            yield b"x" * 1_024

    async def slow() -> AsyncIterator[bytes]:
        yield b'{"name":'
        await asyncio.sleep(5)
        yield b'"acme"}'

    large = await api.ask("POST", "/accounts", token=token, data=endless(), headers=json)
    assert (large.status, large.code) == (413, "body_too_large")
    monkeypatch.setattr(reading, "BODY_WAIT_S", 0.2)
    late = await api.ask("POST", "/accounts", token=token, data=slow(), headers=json)
    assert (late.status, late.code) == (408, "slow_body")
    assert await api.pool.fetchval("SELECT count(*) FROM account") == 0
