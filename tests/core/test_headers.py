"""Which headers cross the gateway: two short lists, and only values that are plain printable ASCII."""

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.wire.headers import TO_CLIENT, TO_UPSTREAM, WAIT_HEADERS, copy_allowed

# Names that would tell an upstream who the client is, or break framing, whichever way they go.
NEVER = {
    b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key", b"cookie", b"set-cookie", b"host", b"connection",
    b"content-length", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"expect", b"forwarded", b"x-forwarded-for",
    b"x-real-ip", b"via", b"referer", b"origin", b"user-agent", b"accept-encoding", b"content-encoding", b"keep-alive",
    b"proxy-authorization", b"proxy-authenticate", b"proxy-connection", b"location", b"server", b"alt-svc",
    b"strict-transport-security", b"x-request-id", b"request-id", b"openai-organization", b"openai-project",
    b"idempotency-key",  # one provider account for all tenants: a stored answer could reach another one
    b"x-ratelimit-limit-requests", b"anthropic-ratelimit-requests-limit", b"date", b"www-authenticate",
    b"traceparent", b"tracestate", b"baggage", b"x-luntrex-policy",
}  # fmt: skip


def copied(value: bytes) -> bytes:
    """What becomes of one allowed header with this value."""
    lines: list[bytes] = []
    copy_allowed((b"retry-after",), {b"retry-after": value}, lines)
    return b"".join(lines)


def test_the_lists_are_these() -> None:
    """A new name is a privacy decision: it has to be written here too."""
    assert TO_UPSTREAM == {
        Dialect.OPENAI: (b"openai-beta",),
        Dialect.ANTHROPIC: (b"anthropic-version", b"anthropic-beta"),
    }
    assert TO_CLIENT == (b"content-type", b"retry-after", b"retry-after-ms", b"x-should-retry", b"openai-processing-ms")
    assert WAIT_HEADERS == (b"retry-after", b"retry-after-ms", b"x-should-retry")
    for names in (*TO_UPSTREAM.values(), TO_CLIENT, WAIT_HEADERS):
        assert not NEVER & set(names)
        assert all(name == name.lower() for name in names)


@pytest.mark.parametrize("value", [b"7", b"a b", b"a\tb", b"!~", b"x" * 1024, b"Wed, 21 Oct 2026 07:28:00 GMT"])
def test_plain_values_are_copied(value: bytes) -> None:
    """Printable ASCII goes as it came, as one whole line."""
    assert copied(value) == b"retry-after: " + value + b"\r\n"


@pytest.mark.parametrize(
    "value",
    [b"", b" ", b" a", b"a ", b"a\r\nX: b", b"a\nb", b"a\rb", b"a\0b", b"a\x7fb", b"\xe9", b"a\x1b[2J", b"\t", b"a\n",
     b"x" * 1025, "\u00a0".encode()],
)  # fmt: skip
def test_other_values_are_left_out(value: bytes) -> None:
    """A value that could end a line, start a terminal sequence or mean two things is dropped whole."""
    assert copied(value) == b""


def test_only_what_is_listed_and_there() -> None:
    """Absent headers make no line; others stay behind; the order is the list's."""
    lines: list[bytes] = []
    copy_allowed((b"b", b"a", b"c"), {b"a": b"1", b"b": b"2", b"x": b"3"}, lines)
    assert b"".join(lines) == b"b: 2\r\na: 1\r\n"
