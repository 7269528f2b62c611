"""Chat streams: what is told without decoding, which choices have ended, and errors that are no `error`."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.wire.sse import End, StreamReader
from luntrex_proxy.core.wire.streams import stream_reader
from tests.core.wire.samples import CHAT_TOKENS, CHAT_USAGE, DONE, chat, compact


def chunk(index: Any, text: str, finish: str | None = None) -> bytes:
    """An event of one choice."""
    choice = {"index": index, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return b"data: %b\n\n" % compact({"choices": [choice]})


def ends(*events: bytes) -> End:
    """How a body of these events ends."""
    reader = stream_reader(Grammar.CHAT)
    for event in events:
        reader.feed(event)
    return reader.finish()


A, B, A_STOP, B_STOP = chunk(0, "a"), chunk(1, "b"), chunk(0, "", "stop"), chunk(1, "", "length")


@pytest.mark.parametrize(
    ("events", "end"),
    [
        ([A, A_STOP], End.COMPLETE),
        ([A, B, A_STOP], End.CUT),
        ([A, B, A_STOP, B], End.CUT),
        ([A, B, B_STOP], End.CUT),
        ([A, B, A_STOP, B, B_STOP], End.COMPLETE),
        ([A, B, B_STOP, A, A_STOP], End.COMPLETE),
        ([A + B + A_STOP], End.CUT),
        ([A + B + A_STOP + B_STOP], End.COMPLETE),
        ([A, A_STOP, chunk(0, "")], End.COMPLETE),  # OpenRouter's usage has a choice without finish_reason
        ([A, A_STOP, B], End.CUT),
        ([chunk(None, "a"), chunk(None, "", "stop")], End.COMPLETE),
        ([chunk("x", "a"), chunk("y", "", "stop")], End.CUT),
        ([b'data: {"choices":[{"delta":{}}]}\n\n', A_STOP], End.COMPLETE),
        ([b'data: {"choices":[{"index":0,"finish_reason":"stop"},{"index":1}]}\n\n'], End.CUT),
        ([A, B, A_STOP, DONE], End.COMPLETE),
        ([b": a comment\n\n"], End.CUT),
        ([b'data: {"choices":[]}\n\n'], End.CUT),
    ],
)
def test_without_done_every_choice_must_have_ended(events: list[bytes], end: End) -> None:
    """One choice's finish_reason does not speak for the others."""
    assert ends(*events) is end


def test_a_very_large_event_ends_the_only_choice_that_is_open() -> None:
    """Its index has gone by when its end comes."""
    large = chunk(0, "x" * 400_000, "stop")
    assert ends(large) is ends(A, large) is End.COMPLETE
    assert ends(A, B, large) is End.CUT
    assert ends(A, B, B_STOP, large) is End.COMPLETE


def test_choices_without_end_take_no_memory() -> None:
    """A hostile upstream's indices are counted up to a limit."""
    reader: Any = stream_reader(Grammar.CHAT)
    for index in range(3000):
        reader.feed(chunk(index, "a"))
    assert len(reader._choices) <= 1024


ERRORS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "in a choice": (
        b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error",'
        b'"error":{"code":502,"message":"died"}}]}\n\n',
        {"message": "died", "type": "server_error", "param": None, "code": 502},
    ),
    "in the second choice": (
        b'data: {"choices":[{"index":0,"delta":{}},{"index":1,"error":{"message":"m","type":"t","code":"c"}}]}\n\n',
        {"message": "m", "type": "t", "param": None, "code": "c"},
    ),
    "a word in a choice": (
        b'data: {"choices":[{"error":"died"}]}\n\n',
        {"message": "died", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
    "finish_reason": (
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"error"}]}\n\n',
        {"message": "The upstream reported an error.", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
    "object": (
        b'data: {"object":"error","message":"boom","type":"InternalServerError","param":null,"code":500}\n\n',
        {"message": "boom", "type": "InternalServerError", "param": None, "code": 500},
    ),
    "type": (
        b'data: {"type":"error","message":"boom"}\n\n',
        {"message": "boom", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
    "name": (
        b'event: error\ndata: {"message":"boom","code":"x"}\n\n',
        {"message": "boom", "type": "server_error", "param": None, "code": "x"},
    ),
    "name behind the data": (
        b'data: {"message":"boom"}\nevent: error\n\n',
        {"message": "boom", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
    "name, no JSON": (
        b"event: error\ndata: boom\n\n",
        {"message": "The upstream reported an error.", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
    "name, no data": (
        b"event: error\n\n",
        {"message": "The upstream reported an error.", "type": "server_error", "param": None, "code": "upstream_error"},
    ),
}


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_in_another_place_is_put_where_sdks_look(kind: str, cut: bool) -> None:
    """The stream has failed and ends with an error event in OpenAI's shape; what follows reaches nobody."""
    event, told = ERRORS[kind]
    reader = stream_reader(Grammar.CHAT)
    assert reader.feed(A) == A
    for piece in [event[:9], event[9:]] if cut else [event]:
        assert reader.feed(piece) == b""
    assert (reader.ended, reader.failed, reader.events) == (True, True, 1)
    assert reader.held.startswith(b"data: ")
    assert reader.held.endswith(b"\n\n")
    assert json.loads(reader.held[5:]) == {"error": told}
    assert reader.feed(DONE) == b""


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"error":{"message":"boom"}}\n\n',
        b'data: {"object":"error","error":{"message":"boom"}}\n\n',
        b'data: {"choices":[{"error":{"message":"a"}}],"error":{"message":"boom"}}\n\n',
    ],
)
def test_an_error_that_sdks_find_passes_as_it_is(event: bytes) -> None:
    """Nothing is put into form that has it."""
    reader = stream_reader(Grammar.CHAT)
    assert reader.feed(event) == b""
    assert (reader.failed, reader.held) == (True, event)


@pytest.mark.parametrize(
    "event",
    [
        chat({"content": "x"}, choices=[{"index": 0, "delta": {"error": {"a": 1}}, "error": None}]),
        b'data: {"object":"chat.completion.chunk"}\n\n',
        b'data: {"choices":[{"content_filter_result":{"error":{"code":"content_filter_error"}}}]}\n\n',
        b"event: ping\ndata: {}\n\n",
    ],
)
def test_what_only_looks_like_an_error(event: bytes) -> None:
    """It passes, and the stream goes on."""
    reader = stream_reader(Grammar.CHAT)
    assert reader.feed(event) == event
    assert not reader.ended


@pytest.mark.parametrize("line_break", [b"\n", b"\r", b"\r\n"])
@pytest.mark.parametrize("before", [[], [A]])
def test_json_over_two_lines_is_no_chunk(line_break: bytes, before: list[bytes]) -> None:
    """An SSE reader takes its second line for a field of its own: no client sees these counts, and so do we."""
    for begun in (b'{"choices":[]', b'{"error":{"message":"m"}', b'{"choices":[{"index":0,"finish_reason":"stop"}]'):
        reader = stream_reader(Grammar.CHAT)
        for event in before:
            reader.feed(event)
        event = b'data: %b%b,"usage":%b}\n\n' % (begun, line_break, compact(CHAT_USAGE))
        assert reader.feed(event) == event
        assert (reader.usage, reader.ended, reader.failed) == (None, False, False)
        assert reader.feed(event + event) == event + event  # several in one read are split first
        assert (reader.usage, reader.ended, reader.finish()) == (None, False, End.CUT)


def facts(reader: Any) -> tuple[Any, ...]:
    """All that a reader says of what came."""
    return (reader.usage, reader.usage_partial, reader.events, reader.text_bytes, reader.ended, reader.held,
            reader.failed, reader._rest, reader._choices)  # fmt: skip


def both(withhold: bool) -> tuple[StreamReader, StreamReader]:
    """A reader as it is, and one that decodes every event."""
    quick: Any = stream_reader(Grammar.CHAT, withhold_usage=withhold)
    careful: Any = stream_reader(Grammar.CHAT, withhold_usage=withhold)
    careful._layouts_left = 0
    return quick, careful


_TEXTS = st.sampled_from(
    ["", " the", "é\n", '"', "\\\\", 'a\\\\"}', "}],", '"usage":null', '"error":{"a":1}', "\\r", "\u2028", "[DONE]"]
) | st.text(max_size=9)
_PADDINGS: Any = st.sampled_from([{}, {"obfuscation": "aB3"}, {"obfuscation": ""}, {"obfuscation": 'x"}\\\\'}])
_MORE: Any = st.sampled_from([{}, {"usage": None}, {"usage": CHAT_USAGE}, {"error": None}, {"error": {"message": "m"}}])
_FORMS = st.sampled_from(["content", "reasoning_content", "text", "arguments"])


@st.composite
def _events(draw: Any) -> bytes:
    delta = {draw(_FORMS): draw(_TEXTS)}
    index = draw(st.sampled_from([0, 0, 0, 1]))
    choice = {"index": index, "delta": delta, "finish_reason": draw(st.sampled_from([None, None, None, "stop"]))}
    value = {"id": "c", "choices": [choice], **draw(_MORE), **draw(_PADDINGS)}
    spaces = draw(st.sampled_from([(",", ":"), (",", ":"), (", ", ": ")]))
    return b"data: %b\n\n" % json.dumps(value, separators=spaces, ensure_ascii=draw(st.booleans())).encode()


@settings(max_examples=500, deadline=None)
@given(st.lists(_events(), max_size=12), st.booleans(), st.data())
def test_what_is_not_decoded_says_the_same(events: list[bytes], withhold: bool, data: st.DataObject) -> None:
    """An event that is taken for one like the last is let go as decoding would let it go, broken ones included."""
    quick, careful = both(withhold)
    events = [event for event in events for _ in range(data.draw(st.integers(1, 2)))]
    for event in events:
        if data.draw(st.integers(0, 5)) == 0:  # a byte of it is lost, doubled, or another one
            at = data.draw(st.integers(0, len(event)))
            event = (
                event[:at]
                + data.draw(st.sampled_from([b"", b"\n", b"\r", b'"', b"\\", b"}", b"\n\n"]))
                + event[at + 1 :]
            )
        told, careful_told = quick.feed(event), careful.feed(event)
        if told != careful_told:  # not JSON, and broken for the client as well: only our own usage may be out of it
            with pytest.raises(msgspec.MsgspecError):
                msgspec.json.decode(event[5:])
            assert withhold
            assert told == event.replace(b',"usage":null', b"", 1)
            assert careful_told == event
            quick.text_bytes = careful.text_bytes
        assert facts(quick) == facts(careful)


@settings(max_examples=300, deadline=None)
@given(st.lists(_events(), max_size=12), st.booleans(), st.data())
def test_several_in_one_read_say_the_same(events: list[bytes], withhold: bool, data: st.DataObject) -> None:
    """Reads end anywhere, and none of them is one whole event: what is let go in the end is what decoding lets go."""
    quick, careful = both(withhold)
    whole = b"".join(event for event in events for _ in range(data.draw(st.integers(1, 3))))
    told = careful_told = b""
    while whole:
        end = data.draw(st.integers(1, len(whole)))
        told, careful_told = told + quick.feed(whole[:end]), careful_told + careful.feed(whole[:end])
        whole = whole[end:]
        assert (told, facts(quick)) == (careful_told, facts(careful))


@pytest.mark.parametrize("more", [{}, {"usage": None}, {"usage": None, "obfuscation": "Xy7"}])
def test_the_usual_event_is_not_decoded(more: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Once an event's like was seen, escapes in its text included."""
    reader = stream_reader(Grammar.CHAT, withhold_usage=True)
    reader.feed(chat({"content": "a"}, **more))
    monkeypatch.setattr("luntrex_proxy.core.wire.chatstream._decode_chunk", None)
    for text in ("b", "", 'say "x"', "line\n", "back\\\\", '"usage":null'):
        event = chat({"content": text}, **more)
        assert reader.feed(event) == event.replace(b',"usage":null', b"")
        assert reader.feed(event + event) == event.replace(b',"usage":null', b"") * 2
    monkeypatch.undo()
    reader.feed(chat(None, usage=CHAT_USAGE))
    assert (reader.events, reader.usage) == (19, CHAT_TOKENS)
