"""Reading a request body: the few fields come out, and nothing ambiguous gets through."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.refusals import FIELDS, REFUSALS
from luntrex_proxy.core.wire.fields import BadBodyError, read_fields
from luntrex_proxy.core.wire.members import are_compact, find_spans, read_members

ROUTE: dict[str, Route] = {route.name: route for route in ROUTES}
CHAT = ROUTE["chat.completions"]


def code(body: bytes, route: Route = CHAT) -> tuple[str, str | None]:
    with pytest.raises(BadBodyError) as caught:
        read_fields(route, body)
    assert caught.value.code in REFUSALS
    assert caught.value.field is None or caught.value.field in FIELDS
    return caught.value.code, caught.value.field


def test_the_usual_body() -> None:
    """Model, stream and stream_options are read; the spelling of white space does not matter."""
    request = {
        "model": "gpt-é",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    for body in (json.dumps(request), json.dumps(request, indent=2) + "\n", json.dumps(request, separators=(",", ":"))):
        fields = read_fields(CHAT, body.encode())
        assert (fields.model, fields.stream, fields.include_usage) == ("gpt-é", True, True)
        assert set(fields.members) == set(request)
    assert repr(fields) == "Fields()"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"{}", (None, False, False)),
        (b" { } ", (None, False, False)),
        (b'{"stream":null,"stream_options":null}', (None, False, False)),
        (b'{"stream":true,"stream_options":{}}', (None, True, False)),
        (b'{"stream":true,"stream_options":{"include_usage":null}}', (None, True, False)),
        (b'{"stream":true,"stream_options":{"include_usage":false}}', (None, True, False)),
        (b'{"model":"g\\u0070t"}', ("gpt", False, False)),
        (b'{"x":{"model":"a","model":"b"},"model":"c"}', ("c", False, False)),  # nested objects are the upstream's
        (b'{"messages":["\\"model\\":\\"x\\"","\\\\"],"model":"c","y":"\\\\\\""}', ("c", False, False)),
        (b'{"n":1.5e3,"m":-0,"model":"c"}', ("c", False, False)),
        ('{"clé":1,"model":"c","漢":[]}'.encode(), ("c", False, False)),
    ],
)
def test_accepted(body: bytes, expected: tuple[str | None, bool, bool]) -> None:
    """Absent and null are false; escapes in values are fine."""
    fields = read_fields(CHAT, body)
    assert (fields.model, fields.stream, fields.include_usage) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b'"x"',
        b"1",
        b"{",
        b'{"a":1',
        b'{"a":1}}',
        b'{"a":1}x',
        b'{"a":1}\x00',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":+1}',
        b'{"a":"\x01"}',
        b'{"a":"\n"}',
        b'{"a":"\\q"}',
        b'{"a":"\\u12"}',
        b'{"a\x01":1}',
        b'{"a":tru}',
        b'{"a":[1,]}',
        b'{"a":/**/1}',
        b'{"a" 1}',
        b"{a:1}",
        b'{"a":1 "b":2}',
        b'{"a":[}',
        b'{"a":{"b":}}',
        b"model=x&stream=true",
        b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"[" * 1_000_000,
    ],
)
def test_not_json(body: bytes) -> None:
    """What is not one JSON object is refused, a depth bomb included."""
    assert code(body) == ("not_json", None)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","model":"a"}',
        b'{"model":"a","x":1, "model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"mod\\u0065l":"b"}',
        b'{"a\\/b":1}',
        b'{"x":1,"\\u0078":2}',
        b'{"x":1,"x":12}',
        b'{"x":12,"x":1}',
        b'{"x":12,"x":1,"y":2}',
        b'{"a":{"p":1,"b":2},"b":2,"a":111111}',
        b'{"a":0,"b":"xxxx","a":{"z":0,      "b":"xxx"}}',  # lengths that lead a careless walk to the very end
        b'{"":1,"":2}',
        b'\xef\xbb\xbf{"model":"a"}',
        b'{"model":"\xff"}',
        b'{"x":"\xc0\xaf"}',
        b'{"x":"\xed\xa0\x80"}',
        b'{"\xff":1}',
        '{"é":1,"\\u00e9":2}'.encode(),
        '{"é":1,"é":2}'.encode(),
    ],
)
def test_ambiguous(body: bytes) -> None:
    """Two readers of this body could see two things."""
    assert code(body) == ("ambiguous_json", None)


def test_ambiguous_stream_options() -> None:
    """stream_options is read and changed by us, so it must be as clear as the top level."""
    assert code(b'{"stream_options":{"include_usage":true,"include_usage":false}}') == (
        "ambiguous_json",
        "stream_options",
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"model":1}', "model"),
        (b'{"model":null}', "model"),
        (b'{"model":""}', "model"),
        (b'{"model":["a"]}', "model"),
        (b'{"model":"%b"}' % (b"m" * 257), "model"),
        (b'{"stream":1}', "stream"),
        (b'{"stream":"true"}', "stream"),
        (b'{"stream":[]}', "stream"),
        (b'{"stream_options":[]}', "stream_options"),
        (b'{"stream_options":true}', "stream_options"),
        (b'{"stream_options":{"include_usage":1}}', "stream_options"),
        (b'{"stream_options":{"include_usage":"yes"}}', "stream_options"),
    ],
)
def test_wrong_type(body: bytes, field: str) -> None:
    """A field of the wrong type is refused by its name."""
    assert code(body) == ("wrong_type", field)


def test_routes_that_do_not_stream() -> None:
    """`stream` means nothing on embeddings; the upstream may judge it."""
    assert read_fields(ROUTE["embeddings"], b'{"model":"e","stream":1}').stream is False
    assert read_fields(ROUTE["responses"], b'{"stream_options":{"include_obfuscation":false}}').include_usage is False
    assert read_fields(CHAT, b'{"model":"%b"}' % (b"m" * 256)).model == "m" * 256


def test_refusals_hold_nothing_of_the_body() -> None:
    """Neither the exception nor what it was raised from may carry the client's words."""
    for body in (b'{"model":"canary\xff"}', b'{"model":{"canary":1}}', b'{"model":1,"model":"canary"}', b'{"canary'):
        try:
            read_fields(CHAT, body)
        except BadBodyError as error:
            chain: BaseException | None = error
            while chain is not None:
                assert "canary" not in repr(chain) + str(vars(chain))
                assert not isinstance(chain, UnicodeDecodeError)  # it holds the whole body
                chain = chain.__context__


def reference(body: bytes) -> list[tuple[str, Any]] | None:
    """The top-level pairs by the standard library; None when it is no object."""
    try:
        pairs = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):
        return None
    return pairs if body.lstrip().startswith(b"{") else None


SPACE = st.sampled_from([b"", b"", b" ", b"\n\t "])
KEY = st.sampled_from([b'"a"', b'"b"', b'"\\u0061"', b'"model"', b'"a\\\\"', b'"\\""', b'""'])
VALUE = st.recursive(
    st.sampled_from([b"1", b"12", b'"a"', b'"x\\"a\\":1,"', b"null", b"{}", b"[ ]"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]"),
        st.lists(st.tuples(KEY, SPACE, inner), max_size=3).map(
            lambda pairs: b"{" + b",".join(k + b":" + s + v for k, s, v in pairs) + b"}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(SPACE, KEY, SPACE, SPACE, VALUE, SPACE), max_size=5), SPACE)
def test_duplicates_are_found_exactly(parts: list[tuple[bytes, ...]], around: bytes) -> None:
    """The walk and the length test agree with the standard library about repeated and escaped keys."""
    body = around + b"{" + b",".join(s + k + t + b":" + u + v + w for s, k, t, u, v, w in parts) + b"}" + around
    pairs = reference(body)
    assert pairs is not None
    members = read_members(body)
    assert members is not None
    names = [name for name, _ in pairs]
    clear = len(set(names)) == len(names) and not any(b"\\" in key for _, key, *_ in parts)
    assert (find_spans(body, members) is not None) is clear
    assert not are_compact(body, members) or clear
    for name, (_, start, end) in (find_spans(body, members) or {}).items():
        assert json.loads(body[start:end], object_pairs_hook=list) == dict(pairs)[name]
