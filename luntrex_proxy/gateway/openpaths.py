"""The three paths that need no key: two probes for whoever supervises the process, and a page that says what it is."""

from collections.abc import Callable
from dataclasses import dataclass

import orjson

from luntrex_proxy.gateway.http.head import RequestHead

PATHS = frozenset({b"/", b"/livez", b"/readyz"})
_HEADERS = b"Content-Type: application/json\r\nCache-Control: no-store\r\n"


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """A whole answer."""

    status: int
    headers: bytes
    body: bytes


def open_path(head: RequestHead, console_url: str, is_ready: Callable[[], bool]) -> OpenAnswer | None:
    """The answer of one of PATHS, or None when the request has to go the whole way."""
    if head.method not in (b"GET", b"HEAD"):
        return None
    if head.path == b"/livez":
        return OpenAnswer(200, _HEADERS, b'{"status":"alive"}')
    if head.path == b"/readyz":
        if is_ready():
            return OpenAnswer(200, _HEADERS, b'{"status":"ready"}')
        return OpenAnswer(503, _HEADERS, b'{"status":"not_ready"}')
    page = {"service": "luntrex-proxy", "api": "/v1", "console": console_url}
    return OpenAnswer(200, _HEADERS, orjson.dumps(page))
