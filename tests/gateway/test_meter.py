"""What counts as the upstream's own numbers, and what is only an estimate."""

from types import SimpleNamespace
from typing import Any

import pytest

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import ServedTokens, Tokens, UsageSource
from luntrex_proxy.core.wire.streams import stream_reader
from luntrex_proxy.gateway.meter import meter

START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m",'
    b'"usage":{"input_tokens":9,"output_tokens":1}}}\n\n'
)
DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}\n\n'
END = b'event: message_delta\ndata: {"type":"message_delta","delta":{},"usage":{"output_tokens":7}}\n\n'
STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


def streamed(*events: bytes) -> Any:
    """An answer whose stream let these events go."""
    reader = stream_reader(Grammar.MESSAGES)
    for event in events:
        reader.feed(event)
    return SimpleNamespace(status=200, reader=reader, is_stream=True, relayed=True)


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
    answer: Any = SimpleNamespace(status=200, reader=reader, is_stream=True, relayed=True)
    tokens, source = meter("chat.completions", answer, 400, 0)
    assert (tokens, source) == (ServedTokens(input=100, output=3, service="flex"), UsageSource.ESTIMATED)


def test_a_failed_response_that_states_its_usage_is_reported() -> None:
    """The terminal event of a failed response carries the upstream's own numbers."""
    reader = stream_reader(Grammar.RESPONSES)
    reader.feed(
        b'event: response.failed\ndata: {"type":"response.failed","response":{"status":"failed",'
        b'"usage":{"input_tokens":50,"output_tokens":3}}}\n\n'
    )
    answer = SimpleNamespace(status=200, reader=reader, is_stream=True, relayed=True)
    assert meter("responses", answer, 400, 0) == (Tokens(input=50, output=3), UsageSource.REPORTED)


@pytest.mark.parametrize(
    ("route", "answer", "source"),
    [
        ("messages", None, UsageSource.NONE),
        ("messages", SimpleNamespace(status=429), UsageSource.NONE),
        ("messages.count_tokens", SimpleNamespace(status=200), UsageSource.NONE),
        (
            "messages",
            SimpleNamespace(status=0, is_stream=False, reader=None, usage=None, relayed=False),
            UsageSource.UNKNOWN,
        ),
    ],
)
def test_no_work_no_tokens(route: str, answer: Any, source: UsageSource) -> None:
    """Nothing asked, refused, or not billed: none. Asked and never answered: unknown."""
    assert meter(route, answer, 400, 0) == (Tokens(), source)
