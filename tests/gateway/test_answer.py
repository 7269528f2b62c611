"""An answer's hold on its upstream connection, and how much of it must be there before it is decided on."""

from types import SimpleNamespace
from typing import Any

import pytest

from luntrex_proxy.core.call import ROUTES, Grammar
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.answer import GATHER_BYTES, Answer
from luntrex_proxy.gateway.http.answerhead import CHUNKED, AnswerHead
from tests.fakes import entry, serving, upstream
from tests.gateway.wire import LAST_CHUNK, STREAM_BODY, Step, ask, chunk, post, sse_head, upstream_server
from tests.upstreams.bodies import DONE, chat_delta


class Connection:
    """Remembers whether anybody held it back."""

    deadline = heard_at = 0.0

    def __init__(self) -> None:
        self.paused: list[bool] = []

    def pause(self, paused: bool) -> None:
        self.paused.append(paused)

    def detach(self) -> None:
        """Nothing to do."""


async def test_a_stream_that_came_whole_does_not_hold_its_connection() -> None:
    """Pushed after its end, to a client that is slow: the connection may be another request's by then."""
    connection: Any = Connection()
    answer = Answer(connection, b"", stream_reader(Grammar.CHAT), ROUTES[0])
    answer.head_arrived(AnswerHead(200, {}, CHUNKED, keep_alive=True, is_stream=True))
    answer.body_arrived(chat_delta("x", "stop") + DONE)
    exchange: Any = SimpleNamespace(on_pause=None, client_paused=True)
    answer.push_to(exchange)
    assert (connection.paused, exchange.on_pause) == ([], None)


def stream() -> Answer:
    """A chat stream whose head has come."""
    connection: Any = Connection()
    answer = Answer(connection, b"", stream_reader(Grammar.CHAT), ROUTES[0])
    answer.head_arrived(AnswerHead(200, {}, CHUNKED, keep_alive=True, is_stream=True))
    return answer


async def test_comments_do_not_decide() -> None:
    """They are kept, in order, for the first event: only that says what the answer is."""
    answer = stream()
    for comment in (b": one\n\n", b"\n", b": two\n\n"):
        answer.body_arrived(comment)
        assert not answer._ready
    answer.body_arrived(chat_delta("x"))
    assert answer._ready
    assert answer.gathered() == b": one\n\n\n: two\n\n" + chat_delta("x")


async def test_comments_without_end_decide_in_the_end() -> None:
    """What is gathered is bounded."""
    answer = stream()
    sent = 0
    while not answer._ready:
        answer.body_arrived(b": %b\n\n" % (b"x" * 4000))
        sent += 4000
    assert sent < GATHER_BYTES + 8000


COMMENT = b": OPENROUTER PROCESSING\n\n"
ERROR = b'data: {"error":{"code":429,"message":"rl"}}\n\n'


@pytest.mark.parametrize(
    "steps",
    [
        [chunk(ERROR)],
        [chunk(COMMENT + ERROR)],
        [chunk(COMMENT), 0.05, chunk(ERROR)],
        [chunk(COMMENT), 0.05, chunk(COMMENT + ERROR[:20]), 0.05, chunk(ERROR[20:])],
    ],
    ids=["alone", "one read", "two reads", "pieces"],
)
async def test_an_error_behind_comments_is_still_the_first_event(steps: list[Step]) -> None:
    """Its real status goes to the client, or another upstream is asked: nothing of the stream has been sent."""
    good = [sse_head(), chunk(COMMENT), 0.05, chunk(chat_delta("a")), chunk(DONE), LAST_CHUNK]
    async with upstream_server([sse_head(), *steps, LAST_CHUNK]) as bad, upstream_server(good) as other:
        both = [upstream("a", bad.url), upstream("b", other.url)]
        async with serving(both, [entry("m", ("a", "m"))]) as gateway:
            answer = await ask(gateway.port, post(STREAM_BODY))
            assert (answer.status, answer.json()["error"]["message"]) == (429, "rl")
        async with serving(both, [entry("m", ("a", "m"), ("b", "m"))]) as gateway:
            answer = await ask(gateway.port, post(STREAM_BODY))
            assert (answer.status, answer.body) == (200, COMMENT + chat_delta("a") + DONE)
            assert (await gateway.outcome()).code == "ok"


async def test_comments_go_out_when_the_grace_is_over() -> None:
    """They tell the client that its upstream lives; an error that comes then is an event."""
    steps = [sse_head(), chunk(COMMENT), 1.3, chunk(ERROR), LAST_CHUNK]
    async with upstream_server(steps) as up, serving([upstream("a", up.url)], [entry("m", ("a", "m"))]) as gateway:
        answer = await ask(gateway.port, post(STREAM_BODY))
        assert (answer.status, answer.body) == (200, COMMENT + ERROR)
        assert (await gateway.outcome()).code == "upstream_error"
