"""Usage and errors in whole and in large JSON answers."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.jsonbody import TAIL_BYTES, JsonReader, Verdict, read_answer
from luntrex_proxy.core.wire.usage import is_billed
from tests.core.wire.samples import CHAT_TOKENS, CHAT_USAGE, RESPONSES_TOKENS, RESPONSES_USAGE

ROUTE: dict[str, Route] = {route.name: route for route in ROUTES}


def verdict(body: bytes) -> Verdict:
    """What is said of an answer of a route whose usage does not matter here."""
    return read_answer(body, ROUTE["responses"])[0]


def verdict_of(name: str, body: bytes) -> Verdict:
    """The same for an answer of a named route."""
    return read_answer(body, ROUTE[name])[0]


@pytest.mark.parametrize(
    ("name", "answer", "tokens"),
    [
        (
            "chat.completions",
            {"choices": [{"message": {"content": 'x "usage":{"prompt_tokens":1}'}}], "usage": CHAT_USAGE},
            CHAT_TOKENS,
        ),
        ("completions", {"usage": CHAT_USAGE}, CHAT_TOKENS),
        (
            "embeddings",
            {"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
            Tokens(input=8),
        ),
        ("responses", {"usage": RESPONSES_USAGE}, RESPONSES_TOKENS),
        (
            "messages",
            {"usage": {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": 2}},
            Tokens(input=5, cached_input=2, output=4),
        ),
        ("messages.count_tokens", {"input_tokens": 77}, Tokens()),
        ("moderations", {"results": []}, Tokens()),
        ("chat.completions", {"choices": []}, None),
        ("chat.completions", {"usage": None}, None),
        ("chat.completions", [], None),
    ],
)
def test_usage_of(name: str, answer: Any, tokens: Tokens | None) -> None:
    """Each route's own names; what a count_tokens answer says is not billed."""
    assert read_answer(json.dumps(answer).encode(), ROUTE[name])[1] == tokens
    assert is_billed(ROUTE[name]) is (name not in ("moderations", "messages.count_tokens"))


@pytest.mark.parametrize("name", ["chat.completions", "embeddings", "responses", "messages"])
def test_a_number_too_large_in_what_is_not_read_of_the_usage_spoils_no_answer(name: str) -> None:
    """It is JSON, and an SDK reads it: whether the counts can be read decides about them, not about the answer."""
    for usage in (b'{"later":1e999}', b'{"prompt_tokens":1,"later":{"a":[1e999]}}', b'{"prompt_tokens":"1","b":1e999}'):
        assert verdict_of(name, b'{"usage":%b}' % usage) == ""
    assert verdict_of(name, b'{"usage":{"prompt_tokens":1e}}') == "upstream_invalid"


def test_usage_of_garbage() -> None:
    """HTML, an empty body and a depth bomb have no usage and no error, but are no answer either."""
    for body in (b"", b"<html>", b'{"usage":' + b"[" * 100_000):
        assert read_answer(body, ROUTE["responses"]) == ("upstream_invalid", None)


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"<!DOCTYPE html><html></html>", b"[]", b'[{"error":{"message":"no"}}]', b"null", b'"text"', b"7",
        b'{"choices":[', b'{"choices":[]', b'{"choices":[]}}', b'{"choices":[]} {}', b'{"choices":[],}',
        b"{'choices':[]}", b'{"choices":"\xff"}', b'{"error":"\xff"}', b'{"choices":"\n"}', b"Internal Server Error",
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_answer(body: bytes) -> None:
    """A 200 whose body is not one complete JSON object in UTF-8 would break inside the client's SDK."""
    assert verdict(body) == "upstream_invalid"


@pytest.mark.parametrize("body", [b"{}", b' {"a":"\xc3\xa9"}\r\n', b'{"choices":[{"x":[{}]}],"error":null}'], ids=repr)
def test_what_is_an_answer(body: bytes) -> None:
    """Any whole object passes, white space around it included."""
    assert verdict(body) == ""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"error": {"message": "no", "code": 502}}, True),
        ({"error": "no"}, True),
        ({"type": "error", "error": {"type": "api_error"}}, True),
        ({"object": "chat.completion", "error": {"code": 1}}, True),
        ({"error": 7}, True),
        ({"error": True}, True),
        ({"error": ["no"]}, True),
        ({"choices": ["error"], "x": {"error": {"a": 1}}, "error": {"b": 1}}, True),
        ({"error": None, "choices": []}, False),
        ({"error": False}, False),
        ({"error": 0}, False),
        ({"error": ""}, False),
        ({"error": {}}, False),
        ({"error": []}, False),
        ({"choices": ["error", {"x": "error"}], "y": '"error":{"a":1}'}, False),
        ({"x": {"object": "response"}, "error": {"a": 1}}, True),
        ({"choices": [{"error": {"message": "x"}}]}, False),
        ({"object": "response", "status": "failed", "error": {"code": "x"}}, False),
    ],
)
def test_has_error(answer: Any, expected: bool) -> None:
    """A 200 with a truthy top-level error is an error, except a response object, which says so itself."""
    for body in (json.dumps(answer).encode(), json.dumps(answer, indent=2).encode()):
        assert (verdict(body) == "upstream_error") is expected
        assert verdict(body) == ("upstream_error" if expected else "")
        large = body.rstrip(b"}\n") + b', "text": "%b"}' % (b'x{}\\"' * 100_000)  # the same, too large to be held
        for step in (7, 10**9):
            reader = JsonReader(ROUTE["chat.completions"])
            for i in range(0, min(len(large), 5000), step):
                reader.feed(large[i : i + step])
            assert reader.has_error() is expected


def test_large_errors_are_looked_for_at_the_start_only() -> None:
    """Beyond 4 KiB an `error` is not looked for; a start full of quotes and brackets is no work either."""
    late, hostile = JsonReader(ROUTE["embeddings"]), JsonReader(ROUTE["embeddings"])
    late.feed(b'{"data":"%b","error":{"a":1}}' % (b"x" * 4096))
    assert late.has_error() is False
    hostile.feed(b'{"a":"' + b'\\"' * 2000 + b'"error":{"a"')
    assert hostile.has_error() is False
    assert JsonReader(ROUTE["embeddings"]).has_error() is False


def embeddings(count: int, first: str = "", last: str = "") -> bytes:
    row = json.dumps({"object": "embedding", "index": 0, "embedding": [0.0123456789] * 512})
    rows = ", ".join([row] * count)
    return f'{{"object": "list", {first}"data": [{rows}]{last}}}'.encode()


USAGE = '"usage": {"prompt_tokens": 812, "total_tokens": 812, "details": {"a": "}{"}}'


@pytest.mark.parametrize("step", [1, 1000, 65536, 10**9])
@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (embeddings(300, last=f', "model": "e", {USAGE}'), Tokens(input=812)),
        (embeddings(300, first=f"{USAGE}, "), Tokens(input=812)),
        (
            embeddings(300, last=f', {USAGE}, "x": "\\"usage\\":{{", "n": {{"usage": {{"prompt_tokens": 1}}}}'),
            Tokens(input=812),
        ),
        (embeddings(300, last=', "n": {"usage": {"prompt_tokens": 1}}'), None),
        (embeddings(300, first='"n": {"usage": {"prompt_tokens": 1}}, '), None),
        (embeddings(300), None),
        (embeddings(1, last=f", {USAGE}"), Tokens(input=812)),
    ],
    ids=["end", "start", "decoys", "only nested", "only nested, start", "none", "small"],
)
def test_large_answers(body: bytes, tokens: Tokens | None, step: int) -> None:
    """The top-level usage is found near either end, whatever the reads were, in bounded memory."""
    if step == 1:
        pieces = [body[:1], body[1:2], body[2:-90], *(body[i : i + 1] for i in range(len(body) - 90, len(body)))]
    else:
        pieces = [body[i : i + step] for i in range(0, len(body), step)]
    reader = JsonReader(ROUTE["embeddings"])
    for piece in pieces:
        reader.feed(piece)
    assert reader.usage() == tokens


def test_memory_is_bounded() -> None:
    """Of 8 MB only the windows are kept."""
    reader = JsonReader(ROUTE["chat.completions"])
    for _ in range(2000):
        reader.feed(b"x" * 4000)
        assert sum(map(len, reader._pieces)) <= TAIL_BYTES + 4000
        assert len(reader._head) <= 4096


def test_hostile_repetition_is_cheap() -> None:
    """Thousands of usage keys cost no more than a few looks."""
    reader = JsonReader(ROUTE["chat.completions"])
    reader.feed(b'{"a":[' + b'{"usage":{}},' * 20_000 + b"0]}")
    assert reader.usage() is None
    reader.feed(b" ")
    assert reader.usage() is None


def fault_of(pieces: list[bytes]) -> str:
    """What a reader says of a body that came in these pieces."""
    reader = JsonReader(ROUTE["chat.completions"])
    for piece in filter(None, pieces):
        reader.feed(piece)
    return reader.fault()


TRICKY: Any = {
    "a\\": '"}{\\', "": [{}, [], {"b": {}}, '\\"}', "{", '{"a":1}', "\\\\", "\u2028}"],
    "c": {"d": {"e": {"f": {"g": {}}}}}, "h": -1.5e9,
}  # fmt: skip


@pytest.mark.parametrize(
    "body", [json.dumps(TRICKY).encode(), b' \r\n{"a" : [ { } ] , "b":"\\\\"}\n ', b"{}"], ids=repr
)
def test_a_large_answer_is_whole_in_whatever_pieces(body: bytes) -> None:
    """Every cut in two, and byte by byte; every shorter body ended too early, and nothing may follow it."""
    assert fault_of([body[i : i + 1] for i in range(len(body))]) == ""
    for cut in range(len(body)):
        assert fault_of([body[:cut], body[cut:]]) == ""
        if body[cut:].strip():
            for pieces in ([body[:cut]], [body[i : i + 1] for i in range(cut)]):
                assert fault_of(pieces) == ("upstream_cut" if body[:cut].strip() else "upstream_invalid")
    for more in (b"}", b"{}", b'"', b"x", b'"}"', b"\\", b'"a"}', b'\\"}', b"[]"):
        assert fault_of([body + more]) == fault_of([body, more]) == fault_of([body, b" ", more]) == "upstream_invalid"


@pytest.mark.parametrize(
    "body", [b"", b"  ", b"<html>" * 100, b"[{}]", b'"{}"', b"}{", b"null", b"x{}", b"\\{}"], ids=repr
)
def test_what_is_no_object_is_no_large_answer(body: bytes) -> None:
    """The first thing in it must be the bracket of an object."""
    assert fault_of([body]) == fault_of([body[i : i + 1] for i in range(len(body))]) == "upstream_invalid"


_VALUES = st.recursive(
    st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.text('"\\\\{}[]nu/é ', max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('"\\\\{}a', max_size=3), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text('"\\\\{}a', max_size=3), _VALUES, max_size=6), st.data())
def test_any_object_in_any_pieces(value: dict[str, Any], data: st.DataObject) -> None:
    """Whole as it is, cut anywhere else: as the JSON parser says."""
    body = json.dumps(value, ensure_ascii=data.draw(st.booleans())).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body) - 1), max_size=8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    assert fault_of(pieces) == ""
    assert fault_of([*pieces[:-1], pieces[-1][:-1]]) == "upstream_cut"
    assert fault_of(pieces[:-1]) == ("upstream_cut" if any(pieces[:-1]) else "upstream_invalid")
