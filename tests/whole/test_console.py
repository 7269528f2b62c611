"""The console of a whole daemon in Chromium: from signing up by letter to a first streamed call, and to erasure.

What its single pages do is tested in tests/console; here is what needs the gateway, the ledger and the mail beside it.
"""

import asyncio
import io
import json
import re
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.console.browser.conftest import chromium
from tests.console.browser.window import Window, new_window
from tests.mailserver import MailServer
from tests.people import PASSWORD
from tests.upstreams.loop_thread import LoopThread
from tests.upstreams.simulated import SimulatedUpstream
from tests.whole.daemon import Daemon, free_port, model, upstream

__all__ = ["chromium"]
KEY = re.compile(r"lx_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
CAROL, DAVE = "carol@example.org", "dave@example.org"
_WHERE_KEYS_MUST_NOT_BE = """
async () => JSON.stringify([location.href, history.state, {...localStorage}, {...sessionStorage}, document.cookie,
    performance.getEntriesByType('resource').map((entry) => entry.name), await caches.keys(),
    (await indexedDB.databases()).map((each) => each.name), document.documentElement.outerHTML])
"""


@pytest.fixture
def mail(servers: LoopThread) -> Iterator[MailServer]:
    server = MailServer()
    servers.run(server.start())
    yield server
    servers.run(server.stop())


@pytest.fixture
def daemon(servers: LoopThread, mail: MailServer) -> Iterator[Daemon]:
    """With paced answers, so that a stream is one, and whoever comes may sign up."""
    slow = SimulatedUpstream(servers, token_gap_seconds=0.01)
    port, price = free_port(), {"input": 1, "output": 2}
    made = Daemon(
        servers,
        {
            "control": {"listen": [f"127.0.0.1:{port}"]},
            "console": {"public_url": f"http://127.0.0.1:{port}", "sign_up": "open"},
            "mail": {"host": "127.0.0.1", "port": mail.port, "security": "none", "sender": "proxy@example.org"},
            "privacy": {"contact": "privacy@example.org", "erasure_grace_days": 0},
            "upstreams": [upstream("sim", "openai", slow.url), upstream("sim-claude", "anthropic", slow.url)],
            "models": [
                model("demo-small", "sim") | {"price": price},
                model("demo-claude", "sim-claude") | {"price": price},
            ],
        },
    )
    made.control_port = port
    try:
        made.start()
        yield made
    finally:
        made.remove()
        slow.stop()


@pytest.fixture
async def window(daemon: Daemon, chromium: Any) -> AsyncIterator[Window]:
    """A window on the console; nothing that happens in it may go against its policy or elsewhere."""
    made = await new_window(chromium, f"http://127.0.0.1:{daemon.control_port}")
    yield made
    assert made.faults == [], "\n".join(made.faults)


async def until(found: Callable[[], Awaitable[Any]], what: str) -> Any:
    """What is found in the end, asked for again and again for a while."""
    deadline = time.monotonic() + 30
    while not (got := await found()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.05)
    return got


async def sign_up(window: Window, mail: MailServer, address: str) -> None:
    """As a person does: address, letter, link, password."""
    page, before = window.page, len(mail.tokens())
    await window.open("/sign-up")
    await page.fill("#address", address)
    await page.check("[name=affirmed_16]")
    await page.click("main button")

    async def letter() -> list[str]:
        return mail.tokens()[before:]

    (token,) = await until(letter, "no letter came")
    await window.open(f"/link?token={token}")
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    assert await page.text_content("h1") == "Your first call"


async def pasted(window: Window, client: str) -> str:
    """The lines that the page of a new key has for this client."""
    fold = window.page.locator("details.fold", has=window.page.get_by_text(client, exact=True))
    text: str = await fold.locator("pre").text_content()
    return text


async def run(*program: str) -> str:
    """What a program of a person's prints."""
    process = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_from_signing_up_to_erasure(daemon: Daemon, mail: MailServer, window: Window) -> None:
    """A key, its lines run as they are, the stream seen live; usage, cost and copy say it; then nothing is left."""
    page = window.page
    await sign_up(window, mail, CAROL)
    account = re.search(r"/accounts/(\d+)", page.url)
    assert account
    await page.click("main form button")
    key = await page.text_content("#new-key")
    assert KEY.fullmatch(key)
    lines = [await pasted(window, client) for client in ("openai for Python", "anthropic for Python")]
    assert "Waiting for your first request" in await page.text_content("#first-call")
    words = [await run(sys.executable, "-c", each) for each in lines]
    assert all(len(each) > 10 for each in words)
    # Nobody loads the page again: it asks by itself.
    await page.get_by_text("It works.").wait_for()
    said = " ".join((await page.text_content("#first-call")).split())
    assert re.search(r"demo-small at sim answered with status 200, beginning after [\d.]+ m?s; \d+ tokens in", said)
    await usage_is_shown(daemon, window, account[1], key)
    assert key not in await page.evaluate(_WHERE_KEYS_MUST_NOT_BE)
    await copy_has_the_requests(window, [key, *words])
    await strangers_see_nothing(daemon, mail, window, account[1])
    await erase(daemon, window)
    daemon.stop()
    everything = b"".join(each.read_bytes() for each in Path(daemon.directory).rglob("*") if each.is_file())
    assert key.encode() not in everything
    assert not any(each.strip()[:40].encode() in everything for each in words)


async def usage_is_shown(daemon: Daemon, window: Window, account: str, key: str) -> None:
    """Both requests, by model, with what they cost to the last digit; and each with its way."""
    page = window.page
    rows = await asyncio.to_thread(daemon.rows_where, "cost_pico > 0")
    assert sorted(each["model"] for each in rows) == ["demo-claude", "demo-small"]
    assert all(each["streamed"] for each in rows)
    await window.open(f"/accounts/{account}/usage?group=model")
    async with page.expect_download() as download:
        await page.get_by_text("Download as CSV").click()
    csv = Path(await (await download.value).path()).read_text()
    for row in rows:
        cost = f"{row['cost_pico'] // 10**12}.{row['cost_pico'] % 10**12:012d}"
        assert f"{row['model']},1,0,{row['input_tokens']},{row['output_tokens']},{cost}" in csv
    await window.open(f"/accounts/{account}/requests/{rows[0]['id']}")
    assert "200" in await page.text_content("main")
    assert key not in await page.content()


async def copy_has_the_requests(window: Window, never: list[str]) -> None:
    """The copy of one's own data has both requests, and nothing of what was said or of the key."""
    page = window.page
    await window.open("/your-data")
    await page.click("button:text-is('Get a copy')")
    async with page.expect_download() as download:
        await page.click("button:text-is('Fetch the data')")
    archive = zipfile.ZipFile(io.BytesIO(Path(await (await download.value).path()).read_bytes()))
    files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert archive.testzip() is None
    assert CAROL in files["data/person.json"]
    assert {each["model"] for each in json.loads(files["data/usage.json"])} == {"demo-small", "demo-claude"}
    for text in files.values():
        assert not any(each[:40] in text for each in never)


async def strangers_see_nothing(daemon: Daemon, mail: MailServer, window: Window, account: str) -> None:
    """Somebody else's session gets no page of the account; who guesses at a password is slowed down."""
    browser = window.page.context.browser
    stranger = await new_window(browser, window.url)
    await sign_up(stranger, mail, DAVE)
    for path in ("", "/usage", "/requests", "/keys", "/limits", "/billing", "/members", "/privacy"):
        assert await stranger.open(f"/accounts/{account}{path}") == 404
    guesser = await new_window(browser, window.url)
    said = ""
    for _ in range(10):
        await guesser.open("/sign-in")
        await guesser.page.fill("#address", DAVE)
        await guesser.page.fill("#password", "not the password of anybody")
        await guesser.page.click("main button")
        said = await guesser.page.text_content("main")
        if "Too many tries" in said:
            break
    assert "Too many tries" in said, said
    assert guesser.faults + stranger.faults == []


async def erase(daemon: Daemon, window: Window) -> None:
    """At once, as no grace is configured: signed out, the key is refused, and no row knows the person."""
    page = window.page
    await window.open("/your-data")
    await page.check("[name=sure]")
    await page.click("button:text-is('Erase me')")

    async def is_gone() -> bool:
        return not await asyncio.to_thread(daemon.query, "SELECT FROM person WHERE email = $1", CAROL)

    await until(is_gone, "the person is still there")
    await window.open("/")
    assert await page.text_content("h1") == "Sign in"
    await page.fill("#address", CAROL)
    await page.fill("#password", PASSWORD)
    await page.click("main button")
    assert await page.text_content("h1") == "Sign in"
    assert await asyncio.to_thread(daemon.query, "SELECT FROM api_key WHERE name = 'first' AND account_id <> 1") == []
