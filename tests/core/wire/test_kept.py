"""State at the provider where it hides: inside of items and blocks, in fields of one SDK, in another model's name."""

import json
from typing import Any

import pytest

from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.refusals import FIELDS
from luntrex_proxy.core.wire.fields import BadBodyError, read_fields
from luntrex_proxy.core.wire.splice import refused_field

ROUTE = {route.name: route for route in ROUTES}
CHAT, RESPONSES, MESSAGES, COUNT = "chat.completions", "responses", "messages", "messages.count_tokens"


def refused(route: str, request: dict[str, Any] | bytes) -> str | None:
    body = request if isinstance(request, bytes) else json.dumps(request).encode()
    return refused_field(ROUTE[route], read_fields(ROUTE[route], body))


def said(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


def items(*items_: Any) -> dict[str, Any]:
    return {"input": list(items_)}


STORE = {"type": "file_search", "vector_store_ids": ["vs_other"]}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-opus"}
FILE = {"type": "document", "source": {"type": "file", "file_id": "file_other"}}
DOCUMENT = {"type": "document", "source": {"type": "content", "content": [{"type": "image", "source": FILE["source"]}]}}
AUDIO = {"role": "assistant", "audio": {"id": "audio_other"}}


@pytest.mark.parametrize("route", [MESSAGES, COUNT])
@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"thread": {"type": "create"}}, "thread"),
        ({"thread": {"type": "continue", "previous_message_id": "msg_other"}}, "thread"),
        ({"diagnostics": {"previous_message_id": "msg_other"}}, "diagnostics"),
        (b'{"diagnostics":{"previous_message_id":"msg_other","previous_message_id":null}}', "diagnostics"),
        ({"fallbacks": [{"model": "claude-other"}]}, "fallbacks"),
        ({"fallbacks": "default"}, "fallbacks"),
        ({"container": "container_other"}, "container"),
        ({"tools": [ADVISOR]}, "tools"),
        (said(FILE), "file_id"),
        (said({"type": "container_upload", "file_id": "f"}), "file_id"),
        (said({"type": "tool_result", "content": [DOCUMENT]}), "file_id"),
        (said({"type": "tool_addition", "tool": ADVISOR}), "tools"),
        (said({"type": "tool_addition", "tool": {"type": "tool_definition", "definition": ADVISOR}}), "tools"),
        (b'{"messages":[{"content":[{"file_id":1e999}]}]}', "messages"),
    ],
)
def test_of_anthropic(route: str, request_: dict[str, Any] | bytes, field: str) -> None:
    """Counting tokens reads what a message would: the same fields are refused on both routes."""
    assert refused(route, request_) == field
    assert field in FIELDS


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (items({"type": "additional_tools", "role": "developer", "tools": [STORE]}), "tools"),
        (items({"type": "tool_search_output", "tools": [STORE]}), "tools"),
        (items({"type": "tool_search_output", "tools": [{"type": "namespace", "tools": [STORE]}]}), "tools"),
        (items({"tools": [{"type": "code_interpreter", "container": "cntr_other"}]}), "tools"),
        (items({"tools": [{"type": "shell", "environment": {"container_id": "cntr_other"}}]}), "tools"),
        (b'{"input":[{"tool\\u0073":[{"vector_store\\u005fids":["vs_other"]}]}]}', "tools"),
        ({"tools": [{"type": "image_generation", "input_image_mask": {"file_id": "file_other"}}]}, "tools"),
        ({"tools": [{"type": "mcp", "tunnel_id": "tunnel_other"}]}, "tools"),
        ({"tools": [{"type": "shell", "environment": {"skills": [{"skill_id": "skill_other"}]}}]}, "tools"),
        (items({"type": "image_generation_call", "id": "ig_x", "status": "completed"}), "input"),
        (items({"type": "image_generation_call", "id": "ig_x", "result": None}), "input"),
        (items({"type": "image_generation_call", "id": "ig_x", "result": ""}), "input"),
        (items({"type": "reasoning", "id": "rs_other", "summary": []}), "input"),
        (items({"type": "reasoning", "id": "rs_other", "encrypted_content": None, "content": []}), "input"),
        (items({"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_other"}), "input"),
        (items({"type": "shell_call", "environment": {"type": "container_reference", "container_id": "c"}}), "input"),
        (items({"type": "computer_call_output", "output": {"file_id": "file_other"}}), "file_id"),
        ({"prompt_cache_options": {"comparison_response_id": "resp_other"}}, "prompt_cache_options"),
        (b'{"prompt_cache_options":{"comparison_response\\u005fid":"resp_other"}}', "prompt_cache_options"),
        ({"prompt_cache_options": "resp_other"}, "prompt_cache_options"),
    ],
)
def test_of_responses(request_: dict[str, Any] | bytes, field: str) -> None:
    """An id of something kept, wherever an item or a tool may have one."""
    assert refused(RESPONSES, request_) == field
    assert field in FIELDS


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"messages": [{"role": "user", "content": "hi"}, AUDIO]}, "audio"),
        (b'{"messages":[{"role":"assistant","aud\\u0069o":{"\\u0069d":"audio_other"}}]}', "audio"),
        ({"audio": {"format": "wav", "voice": {"id": "voice_other"}}}, "audio"),
        (b'{"audio":{"voice":{"id":"voice_other"},"voice":"alloy"}}', "audio"),
        ({"prompt_cache_options": {"comparison_response_id": "resp_other"}}, "prompt_cache_options"),
        (b'{"messages":[{"content":[{"file\\u005fid":"f"}]}]}', "file_id"),
        ({"messages": [{"content": "x", "file_id": "f"}]}, "file_id"),
        (b'{"messages":[{"audio":1e999}]}', "messages"),
    ],
)
def test_of_chats(request_: dict[str, Any] | bytes, field: str) -> None:
    """Audio answers and custom voices are kept by id."""
    assert refused(CHAT, request_) == field
    assert field in FIELDS


@pytest.mark.parametrize("route", sorted(ROUTE))
@pytest.mark.parametrize("field", ["models", "route", "preset"])
def test_models_that_the_catalogue_did_not_resolve(route: str, field: str) -> None:
    """OpenRouter would ask another model than the one that the key may use, or one's stored settings."""
    assert refused(route, {field: ["other/model"] if field == "models" else "other"}) == field
    assert field in FIELDS
    assert refused(route, {field: None}) is None


@pytest.mark.parametrize("route", ["completions", "embeddings", "moderations"])
@pytest.mark.parametrize("value", [[{"file_id": "f"}], b"[1e999]"])
def test_routes_without_a_conversation_have_none_under_an_empty_name(route: str, value: list[Any] | bytes) -> None:
    """What a member without a name holds is no conversation, readable or not."""
    body = b'{"model":"m","":%b}' % (value if isinstance(value, bytes) else json.dumps(value).encode())
    assert read_fields(ROUTE[route], body).parts == []
    assert refused(route, body) is None


CALL = {"name": "t", "arguments": json.dumps({"file_id": "f", "tools": [STORE], "container_id": "c"})}
SCHEMA = {"type": "object", "properties": {"vector_store_ids": {"type": "array"}, "container": {"type": "string"}}}


@pytest.mark.parametrize(
    ("route", "request_"),
    [
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"type": "function", "function": CALL}]}]}),
        (CHAT, {"messages": [{"role": "assistant", "content": None, "audio": None}]}),
        (CHAT, said({"type": "input_audio", "input_audio": {"data": "x", "format": "wav"}}, {"text": '"audio":{"id"'})),
        (CHAT, {"audio": {"voice": "alloy", "format": "wav"}, "prompt_cache_options": {"ttl": "30m"}, "models": []}),
        (CHAT, {"messages": "x", "audio": None, "prompt_cache_options": None, "provider": {"only": ["x"]}}),
        (CHAT, {"messages": [["x"], 7, None, "file_id", {"role": "tool", "content": json.dumps(FILE)}]}),
        (RESPONSES, items({"type": "function_call", "id": "fc_1", "call_id": "c", **CALL})),
        (RESPONSES, items({"type": "function_call_output", "call_id": "c", "output": json.dumps(STORE)})),
        (RESPONSES, items({"type": "function_call_output", "output": [{"type": "input_text", "text": "file_id"}]})),
        (RESPONSES, items({"type": "custom_tool_call", "id": "ctc_1", "input": '{"file_id":"f"}'})),
        (RESPONSES, items({"type": "tool_search_call", "id": "tsc_1", "arguments": {"tools": [STORE]}})),
        (RESPONSES, items({"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAAA"})),
        (RESPONSES, items({"type": "reasoning", "id": "rs_1", "content": [{"type": "reasoning_text", "text": "x"}]})),
        (RESPONSES, items({"type": "reasoning", "summary": [{"type": "summary_text", "text": "x"}]})),
        (RESPONSES, items({"type": "image_generation_call", "id": "ig_1", "result": "aWc="})),
        (RESPONSES, items({"type": "compaction", "id": "cmp_1", "encrypted_content": "x"})),
        (RESPONSES, items({"type": "file_search_call", "id": "fs_1", "results": [{"file_id": "f", "text": "x"}]})),
        (RESPONSES, items({"type": "shell_call", "id": "sh_1", "environment": {"type": "local"}})),
        (RESPONSES, items({"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}})),
        (RESPONSES, items({"tools": [{"type": "function", "name": "file_search", "parameters": SCHEMA}]})),
        (RESPONSES, {"tools": [{"type": "image_generation", "input_image_mask": {"image_url": "data:x"}}]}),
        (RESPONSES, {"tools": [{"type": "shell", "environment": {"type": "local", "skills": [{"name": "s"}]}}]}),
        (RESPONSES, {"prompt_cache_options": {"comparison_response_id": None, "mode": "implicit"}}),
        (MESSAGES, said({"type": "tool_use", "name": "t", "input": {"tool": ADVISOR, "file_id": "f", "thread": "x"}})),
        (MESSAGES, said({"type": "tool_result", "content": json.dumps(FILE)})),
        (MESSAGES, said({"type": "tool_addition", "tool": {"type": "tool_reference", "name": "advisor_1"}})),
        (MESSAGES, said({"type": "thinking", "thinking": "x", "signature": "x"})),
        (MESSAGES, {"tools": [{"name": "thread", "input_schema": SCHEMA}, {"type": "memory_20250818"}]}),
        (MESSAGES, {"thread": None, "diagnostics": {"previous_message_id": None}, "fallbacks": [], "container": None}),
        (COUNT, {"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "t", "input_schema": SCHEMA}]}),
    ],
)
def test_what_refers_to_nothing_passes(route: str, request_: dict[str, Any]) -> None:
    """Ordinary calls, results and the client's own arguments, whatever words they contain."""
    assert refused(route, request_) is None


@pytest.mark.parametrize("depth", [200, 5000, 100_000])
def test_depth_is_no_way_out(depth: int) -> None:
    """Nested further than can be looked through is refused, and nothing overflows."""
    deep = b'{"content":[' * depth + b'{"file_id":"f"}' + b"]}" * depth
    body = b'{"messages":[%b]}' % deep
    try:
        fields = read_fields(ROUTE[MESSAGES], body)
    except BadBodyError:  # deeper than JSON is read at all
        return
    assert refused_field(ROUTE[MESSAGES], fields) in ("file_id", "messages")
