"""The permitted changes: the JSON differs in exactly that field, and every other byte is the client's."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.refusals import FIELDS
from luntrex_proxy.core.wire.fields import read_fields
from luntrex_proxy.core.wire.members import read_members
from luntrex_proxy.core.wire.splice import Changes, refused_field, rewrite

ROUTE: dict[str, Route] = {route.name: route for route in ROUTES}
CHAT, RESPONSES, MESSAGES = ROUTE["chat.completions"], ROUTE["responses"], ROUTE["messages"]


def change(route: Route, body: bytes, **changes: Any) -> bytes:
    return rewrite(route, body, read_fields(route, body), Changes(**changes), 0)


@pytest.mark.parametrize(
    ("route", "body", "changes", "expected"),
    [
        (CHAT, b'{"model":"a","x":1}', {"model": "b"}, b'{"model":"b","x":1}'),
        (
            CHAT,
            b'{ "x":{"model":"a"} , "model" :\t"a" }\n',
            {"model": 'b"'},
            b'{ "x":{"model":"a"} , "model" :\t"b\\"" }\n',
        ),
        (CHAT, b"{}", {"model": "b"}, b'{"model":"b"}'),
        (CHAT, b'{"stream":true}', {"include_usage": True}, b'{"stream_options":{"include_usage":true},"stream":true}'),
        (
            CHAT,
            b'{"stream_options":null,"a":1}',
            {"include_usage": True},
            b'{"stream_options":{"include_usage":true},"a":1}',
        ),
        (
            CHAT,
            b'{"stream_options": {"include_obfuscation" : false}}',
            {"include_usage": True},
            b'{"stream_options": {"include_usage":true,"include_obfuscation" : false}}',
        ),
        (
            CHAT,
            b'{"stream_options":{"x":1,"include_usage": false }}',
            {"include_usage": True},
            b'{"stream_options":{"x":1,"include_usage": true }}',
        ),
        (CHAT, b'{"stream_options":{ }}', {"include_usage": True}, b'{"stream_options":{"include_usage":true }}'),
        (CHAT, b'{"store":true,"model":"m"}', {}, b'{"store":false,"model":"m"}'),
        (CHAT, b'{"store":"yes"}', {}, b'{"store":false}'),
        (RESPONSES, b'{"model":"m"}', {}, b'{"store":false,"model":"m"}'),
        (RESPONSES, b' {\n "store": true}', {}, b' {\n "store": false}'),
        (RESPONSES, b'{"store":null}', {}, b'{"store":false}'),
        (RESPONSES, b"{}", {"model": "b"}, b'{"model":"b","store":false}'),
        (
            CHAT,
            b'{"z":0,"model":"a","store":true,"stream_options":null,"y":9}',
            {"model": "bb", "include_usage": True},
            b'{"z":0,"model":"bb","store":false,"stream_options":{"include_usage":true},"y":9}',
        ),
    ],
)
def test_changes(route: Route, body: bytes, changes: dict[str, Any], expected: bytes) -> None:
    """Each change is one splice."""
    assert change(route, body, **changes) == expected


@pytest.mark.parametrize(
    ("route", "body", "changes"),
    [
        (CHAT, b'{"model":"a"}', {}),
        (CHAT, b'{"model":"a"}', {"model": "a"}),
        (CHAT, b'{"store":false}', {}),
        (CHAT, b'{"store":null}', {}),
        (CHAT, b'{"stream_options":{"include_usage":true}}', {"include_usage": True}),
        (RESPONSES, b'{"store":false}', {"include_usage": True}),
        (MESSAGES, b'{"store":true,"stream":true}', {"include_usage": True}),
    ],
)
def test_nothing_to_change(route: Route, body: bytes, changes: dict[str, Any]) -> None:
    """Then the body is the very same object."""
    assert change(route, body, **changes) is body


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.sampled_from(["model", "store", '"store":true']),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["model", "store", "x", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)
REQUEST = st.fixed_dictionaries(
    {},
    optional={
        "model": st.text(min_size=1, max_size=8),
        "messages": JSON,
        "store": st.sampled_from([True, False, None]),
        "stream": st.booleans(),
        "stream_options": st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "o": JSON}),
        "metadata": JSON,
    },
).flatmap(lambda d: st.permutations(list(d.items())).map(dict))
STYLE = st.sampled_from([{"separators": (",", ":")}, {}, {"indent": 2}, {"ensure_ascii": False}])


@settings(max_examples=500, deadline=None)
@given(REQUEST, STYLE, st.sampled_from([CHAT, RESPONSES, MESSAGES]), st.none() | st.text(max_size=8), st.booleans())
def test_only_that_changes(
    request_: dict[str, Any], style: dict[str, Any], route: Route, model: str | None, usage: bool
) -> None:
    """The JSON of the result is the JSON of the input with just these changes, and the other bytes stay."""
    body = json.dumps(request_, **style).encode()
    result = change(route, body, model=model, include_usage=usage)
    expected = dict(request_)
    if model is not None:
        expected["model"] = model
    if route is RESPONSES or (route is CHAT and request_.get("store")):
        expected["store"] = False
    if route is CHAT and usage:
        expected["stream_options"] = {**(request_.get("stream_options") or {}), "include_usage": True}
    assert json.loads(result) == expected
    before, after = read_members(body), read_members(result)
    assert before is not None
    assert after is not None
    grown = 0
    for name, value in expected.items():
        if name not in request_:
            grown += len(f'"{name}":,') + len(after[name])
        elif value == request_[name]:
            assert bytes(after[name]) == bytes(before[name])
        else:
            grown += len(after[name]) - len(before[name])
    assert len(result) == len(body) + grown - (not request_ and bool(expected))  # no comma in an empty object


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text("abcdef", min_size=1, max_size=4), JSON), max_size=4, unique_by=lambda p: p[0]),
    st.integers(0, 4),
    STYLE,
)
def test_bytes_around_the_model(pairs: list[tuple[str, Any]], at: int, style: dict[str, Any]) -> None:
    """Outside of the model's value the bytes are identical."""
    pairs.insert(at, ("model", "MARK-a"))
    body = json.dumps(dict(pairs), **style).encode()
    assert change(CHAT, body, model="other-name") == body.replace(b'"MARK-a"', b'"other-name"')


def test_large_prompts_pass_as_they_are() -> None:
    """A megabyte of prompt on either side of the splice is untouched."""
    prompt = json.dumps('x\u2028\\"\n' * 200_000).encode()
    body = b'{"input": %b , "model":"a" , "y":%b}' % (prompt, prompt)
    assert change(RESPONSES, body, model="b") == b'{"store":false,"input": %b , "model":"b" , "y":%b}' % (
        prompt,
        prompt,
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"previous_response_id":"resp_1"}', "previous_response_id"),
        (b'{"previous_response_id":""}', "previous_response_id"),
        (b'{"conversation":{"id":"c"}}', "conversation"),
        (b'{"background":true}', "background"),
        (b'{"background":1}', "background"),
        (b'{"prompt":{"id":"pmpt_1"}}', "prompt"),
        (b'{"background":false,"store":true,"previous_response_id":null,"conversation":null,"prompt":null}', None),
        (b'{"input":[{"conversation":"c"}]}', None),
        (b'{"input":[{"role":"user","content":"x"},{"type":"item_reference","id":"msg_1"}]}', "input"),
        (b'{"input":[ {"id":"msg_1","type" : "item_reference"}]}', "input"),
        (b'{"input":[{"type":"item\\u005freference","id":"msg_1"}]}', "input"),
        (b'{"input":[{"t\\u0079pe":"item_reference","id":"msg_1"}]}', "input"),
        (b'{"input":["x",7,null,[],{"type":"item_reference","id":"msg_1"}]}', "input"),
        (b'{"input":[{"id":"msg_1"}]}', "input"),
        (b'{"input":[{"type":null,"id":"msg_1"}]}', "input"),
        (b'{"input":[{"type":1e999}]}', "input"),
        (b'{"input":"item_reference \\"item_reference\\""}', None),
        (b'{"input":[{"role":"user","content":"\\"item_reference\\""}]}', None),
        (b'{"input":[{"role":"user","id":"msg_1","content":"item_reference"}]}', None),
        (b'{"input":[{"type":"message","role":"user","content":[{"type":"item_reference"}]}]}', None),
        (b'{"input":[{"type":"function_call","id":"fc_1","arguments":"{\\"type\\":\\"item_reference\\"}"}]}', None),
        (b'{"input":[{"type":"message","content":[{"type":"input_file","file_id":"file-1"}]}]}', "file_id"),
        (b'{"input":[{"content":[{"type":"input_file","file\\u005fid":"file-1"}]}]}', "file_id"),
        (b'{"input":[{"type":"function_call_output","output":[{"type":"input_image","file_id":"f"}]}]}', "file_id"),
        (b'{"input":[{"content":[{"type":"input_file","file_id":1e999}]}]}', "input"),
        (b'{"input":[{"type":"function_call","arguments":"{\\"file_id\\":1}"},{"content":"file_id"}]}', None),
        (b'{"input":"the file_id","tools":[{"parameters":{"properties":{"file_id":{}}}}]}', None),
        (b'{"input":[{"content":[{"type":"input_file","file_id":null,"file_url":"https://x"}]}]}', None),
        (b'{"input":[]}', None),
        (b'{"input":null,"tools":null}', None),
        (b'{"tools":[{"type":"function"},{"type":"file_search","vector_store_ids":["vs_1"]}]}', "tools"),
        (b'{"tools":[{"vector_store\\u005fids":["vs_1"]}]}', "tools"),
        (b'{"tools":[{"type":"code_interpreter","container":"cntr_1"}]}', "tools"),
        (b'{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}}]}', "tools"),
        (b'{"tools":[{"type":"shell","environment":{"container_id":"cntr_1"}}]}', "tools"),
        (b'{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}', None),
        (b'{"tools":[{"type":"file_search","vector_store_ids":[]}]}', None),
        (b'{"tools":[{"type":"function","parameters":{"vector_store_ids":["x"],"container":"y"}}]}', None),
        (b'{"tools":["x",{"type":"function","name":"container"}]}', None),
        (b'{"container":"c"}', None),
    ],
)
def test_state_at_the_provider(body: bytes, field: str | None) -> None:
    """Fields that need the provider's state are refused by name on responses, null and false pass."""
    assert refused_field(RESPONSES, read_fields(RESPONSES, body)) == field
    assert field is None or field in FIELDS
    assert refused_field(ROUTE["completions"], read_fields(ROUTE["completions"], body)) is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"container":"container_1"}', "container"),
        (b'{"container":{"id":"container_1","skills":[]}}', "container"),
        (b'{"container":null}', None),
        (b'{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]}', "file_id"),
        (b'{"messages":[{"content":[{"type":"container_upload","file_id":"f"}]}]}', "file_id"),
        (b'{"messages":[{"content":[{"type":"tool_result","content":[{"source":{"file_id":"f"}}]}]}]}', "file_id"),
        (b'{"messages":[{"content":[{"type":"tool_use","name":"t","input":{"file_id":"f"}}]}]}', None),
        (b'{"messages":[{"container":"c"}],"tools":[{"name":"container"}],"previous_response_id":"r"}', None),
    ],
)
def test_state_at_the_provider_of_messages(body: bytes, field: str | None) -> None:
    """A container of Anthropic's code execution lives on after its request."""
    assert refused_field(MESSAGES, read_fields(MESSAGES, body)) == field
    assert field is None or field in FIELDS


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"file-1"}}]}]}', "file_id"),
        (b'{"messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"file_id"}}]}]}', None),
        (b'{"messages":[{"role":"tool","content":"{\\"file_id\\": \\"x\\"}"}]}', None),
        (b'{"messages":"file_id"}', None),
    ],
)
def test_uploaded_files_in_chats(body: bytes, field: str | None) -> None:
    """A file of the shared provider account may be another account's."""
    assert refused_field(CHAT, read_fields(CHAT, body)) == field


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"model":"m"}', b'{"store":false,"model":"m"}'),
        (b'{"store":null}', b'{"store":false}'),
        (b'{"store":true}', b'{"store":false}'),
        (b'{"store":false}', b'{"store":false}'),
    ],
)
def test_providers_that_keep_chats_unasked(body: bytes, expected: bytes) -> None:
    """With `store_false` the request says no even where the client says nothing; other routes know no such field."""
    assert change(CHAT, body, store_false=True) == expected
    legacy = ROUTE["completions"]
    assert change(legacy, b'{"model":"m"}', store_false=True) == b'{"model":"m"}'
