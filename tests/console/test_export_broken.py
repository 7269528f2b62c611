"""An export whose process fails: whoever fetches it is told, or sees that it broke off, and waits for nothing."""

import asyncio
import sys

import aiohttp
import pytest

from luntrex_proxy.store import exports
from tests.console.test_pages import Open, ada_in, opened

__all__ = ["opened"]


@pytest.mark.parametrize("written", [0, 200_000])
async def test_a_failed_export_ends(opened: Open, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    """Before the first byte with a sentence, after it with a transfer that is not whole."""
    program = f"import sys; sys.stdin.read(); sys.stdout.write('x' * {written}); sys.stdout.flush(); sys.exit(1)"
    monkeypatch.setattr(exports, "_COMMAND", (sys.executable, "-c", program))
    browser, _ = await ada_in(opened)
    await browser.get("/your-data")
    seen = await browser.send("/your-data/export")
    form, headers = {"token": seen.hidden("token")}, {"Sec-Fetch-Site": "same-origin"}
    async with asyncio.timeout(30):
        async with browser.client.post(f"{browser.url}/rights/download", data=form, headers=headers) as answer:
            if written:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await answer.read()
            else:
                assert (answer.status, "could not be written" in await answer.text()) == (422, True)
