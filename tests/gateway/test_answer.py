"""An answer's hold on its upstream connection ends with the answer."""

from types import SimpleNamespace
from typing import Any

from luntrex_proxy.core.call import ROUTES, Grammar
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.answer import Answer
from tests.upstreams.bodies import DONE, chat_delta


class Connection:
    """Remembers whether anybody held it back."""

    def __init__(self) -> None:
        self.paused: list[bool] = []

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    def detach(self) -> None:
        """Nothing to do."""


async def test_a_stream_that_came_whole_does_not_hold_its_connection() -> None:
    """Pushed after its end, to a client that is slow: the connection may be another request's by then."""
    connection: Any = Connection()
    answer = Answer(connection, stream_reader(Grammar.CHAT), ROUTES[0])
    answer.head_arrived(200, {b"content-type": b"text/event-stream"})
    answer.body_arrived(chat_delta("x", "stop") + DONE)
    exchange: Any = SimpleNamespace(on_pause=None, client_paused=True)
    answer.push_to(exchange)
    assert (connection.paused, exchange.on_pause) == ([], None)
