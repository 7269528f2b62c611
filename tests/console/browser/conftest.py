"""Chromium, and a console to open in it. Without Chromium or playwright these tests are skipped with the reason."""

import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from luntrex_proxy.console.application import add_console
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.control.services import Services
from luntrex_proxy.store.database import Pool
from tests.people import services_of
from tests.postgres import database, database_dsn, postgres_dsn

__all__ = ["database", "database_dsn", "postgres_dsn"]
_UPSTREAMS = [
    {"name": "openai", "dialect": "openai", "base_url": "https://api.openai.com"},
    {"name": "local", "dialect": "openai", "base_url": "http://127.0.0.1:8000"},
]
_MODELS = [
    {"name": "gpt-5-mini", "targets": [{"upstream": "openai", "model": "gpt-5-mini"}]},
    {"name": "gpt-5.4", "targets": [{"upstream": "openai", "model": "gpt-5.4"}]},
    {"name": "fast", "targets": [{"upstream": "openai", "model": "gpt-5"}, {"upstream": "local", "model": "qwen3-8b"}]},
    {"name": "house", "targets": [{"upstream": "local", "model": "llama-4-70b"}], "price": {"input": 2, "output": 8}},
    {"name": "openai/*", "targets": [{"upstream": "openai", "model": "*"}]},
]
BINARY = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
async def chromium() -> AsyncIterator[Any]:
    """A browser; each test opens windows of its own in it."""
    playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
    if BINARY is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    async with playwright.async_playwright() as running:
        # With the cache of pages gone back to, as people have it.
        cached = ["--disable-back-forward-cache"]
        browser = await running.chromium.launch(
            executable_path=BINARY, args=["--no-sandbox"], ignore_default_args=cached
        )
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def served(services: Services) -> AsyncIterator[str]:
    """The URL of a console with these services."""
    app = web.Application()
    add_console(app, services)
    runner = QuietRunner(app, shutdown_timeout_s=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site.port}"
    finally:
        await runner.cleanup()


@pytest.fixture
def services(database: Pool, tmp_path: Path) -> Services:
    """What the console works with."""
    return services_of(
        database, tmp_path, privacy={"contact": "privacy@example.test"}, upstreams=_UPSTREAMS, models=_MODELS
    )
