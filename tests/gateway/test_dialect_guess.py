"""What never became a request is refused in the form its sender reads, as far as its first bytes tell."""

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.gateway.accept import guess_dialect
from tests.fakes import both_dialects, serving
from tests.gateway.wire import connected, upstream_server

LONG = b"X-Long: " + b"a" * 70_000 + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "anthropic"),
    [
        (b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n", True),
        (b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAnthropic-Version: 2023-06-01\r\n", True),
        (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n", False),
    ],
)
async def test_a_head_that_is_too_large_is_refused_in_its_dialect(head: bytes, anthropic: bool) -> None:
    """431 with the envelope of the API that was called."""
    async with (
        upstream_server() as upstream,
        serving(both_dialects(upstream.url)) as gateway,
        connected(gateway.port) as client,
    ):
        answer = await (await client.send(head + LONG)).reply()
    assert answer.status == 431
    assert (answer.json().get("type") == "error") is anthropic
    assert (guess_dialect(head) is Dialect.ANTHROPIC) is anthropic
