"""What counts as the upstream's own numbers, and what is only an estimate."""

from types import SimpleNamespace
from typing import Any

import pytest

from luntrex_proxy.core.call import Grammar, find_route
from luntrex_proxy.core.outcome import ServedTokens, Tokens, UsageSource
from luntrex_proxy.core.wire.sse import StreamReader
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.answer import Answer
from luntrex_proxy.gateway.meter import meter

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m",'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
)
DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"a"}}\n\n'
)
END = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":7}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def answered(reader: StreamReader | None = None, status: int = 200, silent_s: float = 0) -> Answer:
    """An answer with this status, a stream if it has a reader."""
    connection: Any = SimpleNamespace(silent_s=silent_s)
    answer = Answer(connection, b"", reader, find_route(b"POST", b"/v1/messages", speaks_anthropic=True)[0])
    answer.is_sent = True
    answer.status, answer.is_stream = status, reader is not None
    return answer


def streamed(*events: bytes) -> Answer:
    """An answer whose stream let these events go."""
    reader = stream_reader(Grammar.MESSAGES)
    for event in events:
        reader.feed(event)
    return answered(reader)


def test_a_whole_stream_is_reported() -> None:
    """Input from message_start, output from message_delta: the upstream's numbers."""
    answer = streamed(START, DELTA, END, STOP)
    assert meter("messages", answer, 400, 0) == (Tokens(input=9, output=7), UsageSource.REPORTED)


def test_a_stream_without_its_start_is_estimated() -> None:
    """An upstream that never said its input must not be billed as if it had said zero."""
    tokens, source = meter("messages", streamed(DELTA, END, STOP), 400, 0)
    assert (tokens.input, tokens.output, source) == (100, 7, UsageSource.ESTIMATED)


def test_a_cut_stream_is_estimated_from_what_was_said_and_counted() -> None:
    """Input was said, output is the number of events."""
    tokens, source = meter("messages", streamed(START, *[DELTA] * 5), 400, 0)
    assert (tokens.input, tokens.output, source) == (9, 6, UsageSource.ESTIMATED)


def test_a_cut_stream_keeps_the_service_tier_it_came_at() -> None:
    """It is said at the beginning, and half a stream of flex costs no more than a whole one."""
    start = START.replace(b'"output_tokens":1', b'"output_tokens":1,"service_tier":"batch"')
    tokens, source = meter("messages", streamed(start, *[DELTA] * 5), 400, 0)
    assert (tokens, source) == (ServedTokens(input=9, output=6, service="batch"), UsageSource.ESTIMATED)
    reader = stream_reader(Grammar.CHAT)
    for said in (b'"flex"', b"[]", b"null"):
        reader.feed(b'data: {"service_tier":%b,"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n' % said)
    tokens, source = meter("chat.completions", answered(reader), 400, 0)
    assert (tokens, source) == (ServedTokens(input=100, output=3, service="flex"), UsageSource.ESTIMATED)


def test_a_failed_response_that_states_its_usage_is_reported() -> None:
    """The terminal event of a failed response carries the upstream's own numbers."""
    reader = stream_reader(Grammar.RESPONSES)
    reader.feed(
        b'event: response.failed\ndata: {"type":"response.failed","response":{"status":"failed",'
        b'"usage":{"input_tokens":50,"output_tokens":3}}}\n\n'
    )
    assert meter("responses", answered(reader), 400, 0) == (Tokens(input=50, output=3), UsageSource.REPORTED)


@pytest.mark.parametrize(
    ("route", "answer"),
    [("messages", None), ("messages", answered(status=429)), ("messages.count_tokens", answered())],
)
def test_no_work_no_tokens(route: str, answer: Answer | None) -> None:
    """Nothing asked, refused, or not billed."""
    assert meter(route, answer, 400, 0, 300) == (Tokens(), UsageSource.NONE)


def test_who_never_answered_is_unknown() -> None:
    """Its input was sent; what it made of it nobody saw, but it had time for it. One that closed did nothing."""
    assert meter("messages", answered(status=0), 401, 0, 300) == (Tokens(input=101), UsageSource.UNKNOWN)
    waited = answered(status=0, silent_s=1.9)
    assert meter("messages", waited, 401, 0, 300) == (Tokens(input=101, output=200), UsageSource.UNKNOWN)
    assert meter("messages", waited, 401, 0, 150) == (Tokens(input=101, output=150), UsageSource.UNKNOWN)
    waited.failure = "upstream_timeout"
    assert meter("messages", waited, 401, 0, 300) == (Tokens(input=101), UsageSource.UNKNOWN)
    waited.failure = "upstream_closed"
    assert meter("messages", waited, 401, 0, 300) == (Tokens(), UsageSource.UNKNOWN)
