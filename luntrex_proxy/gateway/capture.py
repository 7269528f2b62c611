"""Debug capture: copy a request's body and its answer for a sink that encrypts them. Only what is captured comes here.

The owner of the key sees in each answer that it is: x-luntrex-debug-capture.
"""

from collections.abc import Callable
from typing import Any, Final, cast

from luntrex_proxy.core.capture import PART_BYTES_MAX, Captured
from luntrex_proxy.gateway.http.exchange import Connection, Exchange
from luntrex_proxy.gateway.ports import Captures
from luntrex_proxy.gateway.record import Draft

HEADER: Final = b"x-luntrex-debug-capture: on\r\n"


def begin_capture(captures: Captures, exchange: Exchange, draft: Draft, body: bytes) -> None:
    """Copy this request and its answer, if its key is captured now."""
    sink = captures.admit(draft.key_id)
    if sink is None:
        return
    captured = Captured(draft.request_id, draft.started_us, draft.route, bytes(body[:PART_BYTES_MAX]), len(body))
    tapped = _Tapped(exchange.connection, captured, sink)
    exchange.divert(tapped.see, cast(Connection, tapped))


class _Tapped:
    """Stands before the connection of one exchange: sees what is written, and when the answer has ended."""

    def __init__(self, connection: Connection, captured: Captured, sink: Callable[[Captured], None]) -> None:
        self._connection = connection
        self._captured = captured
        self._sink = sink

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def see(self, data: bytes) -> bytes:
        """Copy a write; the first one is the head, and gets the header."""
        if not self._captured.answer:
            line, end, rest = data.partition(b"\r\n")
            data = b"".join((line, end, HEADER, rest))
        self._captured.add(data)
        return data

    def answered(self) -> None:
        """The request is over, however."""
        self._sink(self._captured)
        self._connection.answered()
