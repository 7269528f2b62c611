"""Shared by the tests of the console: its application on a loopback port, over a real database, and people to ask."""

import contextlib
import datetime
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yarl
from aiohttp import web

from luntrex_proxy.console.api.routing import BASE
from luntrex_proxy.console.application import add_console
from luntrex_proxy.control import sessions
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.control.services import Services
from luntrex_proxy.core.health import Condition
from luntrex_proxy.core.roles import Permission, Role
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.store import accounts, tokens
from luntrex_proxy.store.database import Pool
from tests.postgres import LOOKUP, database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        """The JSON in it; None without one."""
        return orjson.loads(self.raw) if self.raw else None

    @property
    def code(self) -> str:
        """Which problem it is; "" for none."""
        kind = self.body.get("type", "") if self.status >= 400 else ""
        return str(kind).rpartition(":")[2]


@dataclass
class Api:
    """A running API, and what tests need around it."""

    services: Services
    url: str
    client: aiohttp.ClientSession

    @property
    def pool(self) -> Pool:
        """The database behind it."""
        return self.services.pool

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        session: str | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, by a token, by a session's cookie, or by nobody."""
        sent = dict(headers or {})
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if session is not None:
            sent = {"Cookie": f"luntrex={session}", "Sec-Fetch-Site": "same-origin"} | sent
        if json is not None:
            data, sent = orjson.dumps(json), {"Content-Type": "application/json"} | sent
        url = yarl.URL(self.url + path, encoded=True)  # as it stands there
        async with self.client.request(method, url, data=data, headers=sent) as answer:
            return Answer(answer.status, answer.headers.copy(), await answer.read())

    async def person(self, roles: Mapping[int, Role] | None = None, *, operator: bool = False) -> str:
        """A new person with these roles in accounts; returns the id."""
        person_id = str(
            await self.pool.fetchval(
                "INSERT INTO person (email, operator, affirmed_16_at) VALUES ($1, $2, now()) RETURNING person_id",
                f"{uuid.uuid4().hex}@example.test",
                operator,
            )
        )
        for account_id, role in (roles or {}).items():
            await self.pool.execute(
                "INSERT INTO membership (person_id, account_id, role) VALUES ($1, $2, $3)", person_id, account_id, role
            )
        return person_id

    async def token(self, person_id: str, scopes: Iterable[Permission] = tuple(Permission)) -> str:
        """A token of a person; by default it limits nothing."""
        until = datetime.datetime.fromtimestamp(time.time(), datetime.UTC) + datetime.timedelta(days=30)
        return (await tokens.create(self.pool, person_id, "test", sorted(scopes), until)).token

    async def session(self, person_id: str) -> str:
        """A session's cookie, as after signing in."""
        return await sessions.begin(self.services, uuid.UUID(person_id), "local")

    async def account(self, name: str) -> int:
        """A new account; returns the id."""
        return (await accounts.create(self.pool, name)).account_id


@contextlib.asynccontextmanager
async def running_api(database: Pool, directory: Path, **sections: Any) -> AsyncIterator[Api]:
    """The API on a loopback port, with these sections of the configuration."""
    settings = Settings.model_validate({"privacy": {"contact": "privacy@example.test"}} | sections)
    up = Condition("up", "ready", 1.0, 0, maintenance=False)
    services = Services(settings, database, LOOKUP, directory, key_bcrypt_cost=4, upstreams=lambda _: [up])
    app = web.Application()
    add_console(app, services)
    runner = QuietRunner(app, shutdown_timeout_s=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(cookie_jar=jar, skip_auto_headers=["Content-Type"]) as client:
        yield Api(services, f"http://127.0.0.1:{site.port}{BASE}", client)
    await runner.cleanup()


@pytest.fixture
async def api(database: Pool, tmp_path: Path) -> AsyncIterator[Api]:
    """An API of the test's own."""
    async with running_api(database, tmp_path) as running:
        yield running
