"""The stream reader: the same bytes out and the same facts, however the upstream's bytes were cut."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.sse import EVENT_LIMIT_BYTES, End, StreamReader
from luntrex_proxy.core.wire.streams import stream_reader
from tests.core.wire.samples import (
    CHAT_TOKENS,
    CHAT_USAGE,
    DONE,
    RESPONSES_TOKENS,
    RESPONSES_USAGE,
    SAMPLES,
    Sample,
    chat,
    compact,
    named,
)


def read(sample: Sample, pieces: list[bytes], line_end: bytes = b"\n") -> StreamReader:
    """Feed the pieces and check everything the sample promises."""
    reader = stream_reader(sample.grammar, withhold_usage=sample.withhold)
    out = b""
    for piece in pieces:
        out += reader.feed(piece)
        assert not out.strip() or out.endswith(line_end * 2), "what was let go is not whole events"
    end = reader.finish()
    passed = sample.passed
    if passed is None:
        passed = sample.sent[: -len(sample.held + sample.after)] if sample.held else sample.sent
        if sample.name == "messages, unnamed error gets its name":
            passed = sample.events[0]
    held = sample.held
    if line_end != b"\n":
        passed, held = passed.replace(b"\n", line_end), held.replace(b"\n", line_end)
    assert out + reader.held == passed + held
    assert reader.held.lstrip(b"\r\n") == held  # a blank line too many may stand on either side
    assert reader.usage == sample.tokens
    assert reader.failed is sample.failed
    assert end is (End.COMPLETE if sample.complete else End.CUT)
    assert reader.ended is sample.complete
    assert reader.mid_event is False
    return reader


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_whole_and_event_by_event(sample: Sample) -> None:
    """In one read, and in one read per event."""
    whole = read(sample, [sample.sent])
    single = read(sample, [*sample.events, sample.after])
    assert whole.events == single.events
    assert whole.text_bytes == single.text_bytes or "blank" in sample.name
    if sample.count is not None:
        assert whole.events == sample.count


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_a_read_that_passes_as_it_came_ends_nothing(sample: Sample) -> None:
    """Who gets the very object back that was fed need not ask whether the stream has ended with it."""
    reader = stream_reader(sample.grammar, withhold_usage=sample.withhold)
    for piece in (*sample.events, sample.after):
        if piece:
            out = reader.feed(piece)
            assert out is not piece or not reader.ended


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda s: s.name)
def test_byte_by_byte_and_every_cut(sample: Sample) -> None:
    """One byte per read, and every cut in two."""
    sent = sample.sent
    counts = {read(sample, [sent[i : i + 1] for i in range(len(sent))]).events}
    for cut in range(len(sent) + 1):
        counts.add(read(sample, [sent[:cut], sent[cut:]]).events)
    assert len(counts) == 1


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_cuts(data: st.DataObject) -> None:
    """Any number of cuts anywhere."""
    sample = data.draw(st.sampled_from(SAMPLES))
    sent = sample.sent
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12)))
    read(sample, [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True)])


@pytest.mark.parametrize("line_end", [b"\r\n", b"\r"])
@pytest.mark.parametrize(
    "sample", [s for s in SAMPLES if "line" not in s.name and "unnamed error" not in s.name], ids=lambda s: s.name
)
def test_other_line_ends(sample: Sample, line_end: bytes) -> None:
    """CRLF and CR streams are read the same and pass as they are, at every cut."""
    sent = sample.sent.replace(b"\n", line_end)
    step = 1 if len(sent) < 900 else 7
    read(sample, [sent], line_end)
    read(sample, [sent[i : i + 1] for i in range(len(sent))], line_end)
    for cut in range(0, len(sent), step):
        read(sample, [sent[:cut], sent[cut:]], line_end)


def test_the_plain_event_is_not_copied() -> None:
    """A read that is one event of no interest is the very same object going out."""
    for grammar, event in (
        (Grammar.CHAT, chat({"content": "hi"})),
        (Grammar.MESSAGES, named("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"})),
        (Grammar.RESPONSES, named("response.output_text.delta", delta="hi")),
    ):
        assert stream_reader(grammar).feed(event) is event


def test_flat_responses_error_gets_both_shapes() -> None:
    """The documented flat error is not raised by openai-python; the nested shape is added, nothing is lost."""
    flat = named("error", sequence_number=7, code="server_error", message="It broke", param=None)
    reader = stream_reader(Grammar.RESPONSES)
    assert reader.feed(named("response.created", sequence_number=0) + flat) == named(
        "response.created", sequence_number=0
    )
    name, data = reader.held.split(b"\ndata: ")
    event = json.loads(data)
    assert name == b"event: error"
    assert reader.held.endswith(b"\n\n")
    assert event.pop("error") == {"type": "server_error", "code": "server_error", "message": "It broke", "param": None}
    assert event == {
        "type": "error",
        "sequence_number": 7,
        "code": "server_error",
        "message": "It broke",
        "param": None,
    }
    assert reader.failed


def test_garbled_error_is_still_an_error() -> None:
    """An error event whose data is no JSON ends the stream as an error the SDK raises on."""
    reader = stream_reader(Grammar.RESPONSES)
    assert reader.feed(b"event: error\ndata: boom\n\n") == b""
    assert reader.failed
    assert json.loads(reader.held.split(b"data: ")[1])["error"]["message"] == "The upstream reported an error."


@pytest.mark.parametrize(
    "end",
    [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n", b"data:[DONE]", b"data:  [DONE] ", b"id: 7\ndata: [DONE]",
     b"event: done\ndata: [DONE]\n", b": bye\ndata: [DONE]"],
    ids=repr,
)  # fmt: skip
def test_the_last_event_without_its_blank_line(end: bytes) -> None:
    """Only the end of the body tells that it is whole; it is then held with the blank line that SDKs wait for."""
    text = chat({"content": "a"})
    for pieces in ([text + end], [text, end], [text, *(end[i : i + 1] for i in range(len(end)))]):
        reader = stream_reader(Grammar.CHAT)
        assert b"".join(map(reader.feed, pieces)) == text
        assert (reader.ended, reader.held) == (False, b"")
        assert reader.finish() is End.COMPLETE
        assert reader.held == end.strip() + b"\n\n"
        assert reader.finish() is End.COMPLETE


@pytest.mark.parametrize("end", [b"data: [DON", b"data: x[DONE]", b'data: {"a":1}\ndata: [DONE]', b"[DONE]"], ids=repr)
def test_what_is_no_last_event(end: bytes) -> None:
    """Something like the last event does not complete a stream."""
    reader = stream_reader(Grammar.CHAT)
    reader.feed(chat({"content": "a"}) + end)
    assert (reader.finish(), reader.held) == (End.CUT, b"")


@pytest.mark.parametrize("nonsense", [-1, 2.5, True, "7", 10**10])
def test_nonsense_after_good_numbers(nonsense: object) -> None:
    """What was reported before stays for the estimate, but is no longer taken for the whole; a restatement is."""
    reader = stream_reader(Grammar.CHAT)
    first = {"prompt_tokens": 7, "completion_tokens": 1}
    reader.feed(chat({"content": "a"}, usage=first))
    assert (reader.usage, reader.usage_partial) == (Tokens(input=7, output=1), False)
    reader.feed(chat({"content": "b"}, usage={**first, "completion_tokens": nonsense}))
    assert (reader.usage, reader.usage_partial) == (Tokens(input=7, output=1), True)
    reader.feed(chat(None, usage={**first, "completion_tokens": 2}))
    assert (reader.usage, reader.usage_partial) == (Tokens(input=7, output=2), False)

    reader = stream_reader(Grammar.MESSAGES)
    reader.feed(named("message_start", message={"usage": {"input_tokens": 7, "output_tokens": 1}}))
    assert reader.usage_partial is False
    reader.feed(named("message_delta", usage={"output_tokens": nonsense}))
    assert (reader.usage, reader.usage_partial) == (Tokens(input=7, output=1), True)
    reader.feed(named("message_delta", usage={"output_tokens": 2}))
    assert (reader.usage, reader.usage_partial) == (Tokens(input=7, output=2), False)

    reader = stream_reader(Grammar.RESPONSES)
    reader.feed(named("response.completed", response={"usage": {"input_tokens": 7, "output_tokens": nonsense}}))
    assert (reader.ended, reader.usage) == (True, None)


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (b'{"usage":null,"id":"c","choices":[]}', b'{"id":"c","choices":[]}'),
        (b'{"usage":null}', b"{}"),
        (b'{ "usage" : null , "choices" : [] }', b'{ "choices" : [] }'),
        (b'{"usage":null,"t":{"n":1,"usage":null}}', b'{"t":{"n":1,"usage":null}}'),
        (b'{"choices":[],"usage":null}', b'{"choices":[]}'),
    ],
)
def test_null_usage_is_withheld_wherever_it_stands(sent: bytes, passed: bytes) -> None:
    """A client that did not ask for usage sees no trace of ours, be it the first member or the last."""
    for start in (b"data: ", b"data:", b"id: 1\ndata: "):
        reader = stream_reader(Grammar.CHAT, withhold_usage=True)
        out = reader.feed(start + sent + b"\n\n")
        assert out.removeprefix(start).strip() == passed
        assert out.endswith(b"}\n\n")
        assert stream_reader(Grammar.CHAT).feed(start + sent + b"\n\n") == start + sent + b"\n\n"


def large(kind: str, usage: object, size: int) -> bytes:
    item = {"type": "message", "content": [{"type": "output_text", "text": 'x"{\\' * (size // 6)}]}
    tools = [{"usage": {"input_tokens": 1}}]
    return named(kind, response={"id": "resp_1", "output": [item], "tools": tools, "usage": usage})


@pytest.mark.parametrize("step", [1000, 65536, 10**9])
def test_very_large_terminal_event(step: int) -> None:
    """More than 256 KiB streams through, but its end waits for the record, and its usage is found."""
    event = large("response.completed", RESPONSES_USAGE, 600_000)
    reader = stream_reader(Grammar.RESPONSES)
    out = b""
    for i in range(0, len(event), step):
        out += reader.feed(event[i : i + step])
        assert reader.mid_event is (len(out) > 0 and not reader.ended)
    assert reader.ended
    assert out + reader.held == event
    assert len(reader.held) >= 1000
    assert reader.usage == RESPONSES_TOKENS
    assert reader.feed(b"more\n\n") == b""


def test_very_large_event_in_the_middle() -> None:
    """It streams through byte for byte and the stream goes on; a cut inside it is known."""
    big = b"data: %b\n\n" % compact(
        {"choices": [{"delta": {"content": "y" * 400_000}, "finish_reason": "stop"}], "usage": CHAT_USAGE}
    )
    sent = chat({"content": "a"}) + big + chat({"content": "b"}) + DONE
    reader = stream_reader(Grammar.CHAT)
    out = b""
    for i in range(0, len(sent), 30_000):
        out += reader.feed(sent[i : i + 30_000])
        if 270_000 < i < 370_000:
            assert reader.mid_event
            assert reader.finish() is End.CUT
    assert out == sent[: -len(DONE)]
    assert reader.held == DONE
    assert (reader.events, reader.usage) == (3, CHAT_TOKENS)
    assert reader.text_bytes == len(big) + 2


def test_an_event_below_the_limit_is_held() -> None:
    """Nothing of an unfinished event goes out before the limit, so an error event can always follow."""
    reader = stream_reader(Grammar.CHAT)
    assert reader.feed(b"data: " + b"x" * (EVENT_LIMIT_BYTES - 6)) == b""
    assert not reader.mid_event
    assert reader.feed(b"x") != b""
    assert reader.mid_event


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([Grammar.CHAT, Grammar.RESPONSES, Grammar.MESSAGES]), st.lists(st.binary(max_size=40)))
def test_garbage_never_raises(grammar: Grammar, pieces: list[bytes]) -> None:
    """Whatever comes, the reader neither fails nor makes bytes up."""
    reader = stream_reader(grammar, withhold_usage=True)
    out = b"".join(map(reader.feed, pieces))
    assert b"".join(pieces).startswith(out) or reader.failed
    assert reader.finish() in End
    assert reader.usage is None or isinstance(reader.usage, Tokens)


_TEXTS = ["Hello", "", 'say \\"a\\":\\"b\\",\\"c\\"', "x" * 70]  # as they stand in JSON
_FORMS = {
    Grammar.CHAT: b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}],"obfuscation":"aB3dE"}\n\n',
    Grammar.RESPONSES: b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"m",'
    b'"delta":"%b","logprobs":[],"obfuscation":"aB3dE"}\n\n',
    Grammar.MESSAGES: b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"%b"}}\n\n',
}


@pytest.mark.parametrize("cut", ["by event", "together", "in pieces"])
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("grammar", _FORMS)
def test_what_the_model_says_is_counted_without_what_is_around_it(grammar: Grammar, spaced: bool, cut: str) -> None:
    """In whatever pieces it comes, quotes inside of it included; the request that a first event repeats is not."""
    form = _FORMS[grammar].replace(b'":', b'": ').replace(b',"', b', "') if spaced else _FORMS[grammar]
    events = [form % text.encode() for text in _TEXTS * 3]
    if grammar is Grammar.RESPONSES:
        said = b'{"type":"response.created","response":{"usage":null,"instructions":"%b"}}' % (b"x" * 300_000)
        events.insert(0, b"event: response.created\ndata: %b\n\n" % said)
    reader = stream_reader(grammar)
    sent = b"".join(events)
    pieces = {
        "by event": events,
        "together": [sent],
        "in pieces": [sent[at : at + 97] for at in range(0, len(sent), 97)],
    }
    assert b"".join(reader.feed(piece) for piece in pieces[cut]) == sent
    assert reader.text_bytes == 3 * sum(map(len, _TEXTS))
