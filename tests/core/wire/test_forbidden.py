"""Request fields that ask a provider for more than a policy allows: one case per row of the table, and its bound."""

import pytest

from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.policy import NO_TRAINING, Policy, RetentionKind, Training
from luntrex_proxy.core.refusals import FIELDS
from luntrex_proxy.core.wire.fields import read_fields
from luntrex_proxy.core.wire.forbidden import _EVERYWHERE, _ROWS, forbidden_field

ROUTE = {route.name: route for route in ROUTES}
CHAT, RESPONSES, MESSAGES, COUNT = "chat.completions", "responses", "messages", "messages.count_tokens"


def state(days: int) -> Policy:
    return Policy.of(None, RetentionKind.APPLICATION_STATE, days, Training.NEVER)


EU = Policy.of(frozenset({"eu"}), RetentionKind.UNKNOWN, None, Training.UNKNOWN)
US = Policy.of(frozenset({"us"}), RetentionKind.UNKNOWN, None, Training.UNKNOWN)
ANY = Policy()

# route, body, field, the least policy that allows it, one just below
CASES = [
    (CHAT, b'{"prompt_cache_retention":"24h"}', "prompt_cache_retention", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_retention":"24h"}', "prompt_cache_retention", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_retention":"\\u00324h"}', "prompt_cache_retention", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_retention":24}', "prompt_cache_retention", state(1), NO_TRAINING),
    (CHAT, b'{"modalities":["text","audio"]}', "modalities", state(1), NO_TRAINING),
    (CHAT, b'{"modalities":"audio"}', "modalities", state(1), NO_TRAINING),
    (RESPONSES, b'{"modalities":["audi\\u006f"]}', "modalities", state(1), NO_TRAINING),
    (CHAT, b'{"tools":[{"type":"code_interpreter"}]}', "tools", state(1), NO_TRAINING),
    (RESPONSES, b'{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}]}', "tools", state(1), NO_TRAINING),
    (RESPONSES, b'{"tools":[{"type":"function"},{"type":"shell"}]}', "tools", state(1), NO_TRAINING),
    (MESSAGES, b'{"tools":[{"type":"code_execution_20260521","name":"c"}]}', "tools", state(30), state(29)),
    (RESPONSES, b'{"tools":[{"type":"mcp","server_url":"https://x"}]}', "tools", ANY, state(3650)),
    (RESPONSES, b'{"tools":[{"typ\\u0065":"mcp","connector_id":"connector_gmail"}]}', "tools", ANY, EU),
    (MESSAGES, b'{"tools":[{"type":"mcp_toolset","mcp_server_name":"x"}]}', "tools", ANY, NO_TRAINING),
    (RESPONSES, b'{"tools":[{"type":1e999}]}', "tools", ANY, NO_TRAINING),
    (MESSAGES, b'{"mcp_servers":[{"type":"url","url":"https://x"}]}', "mcp_servers", ANY, state(3650)),
    (MESSAGES, b'{"inference_geo":"global"}', "inference_geo", NO_TRAINING, US),
    (MESSAGES, b'{"inference_geo":"us"}', "inference_geo", US, EU),
    (MESSAGES, b'{"inference_geo":7}', "inference_geo", NO_TRAINING, US),
    (COUNT, b'{"mcp_servers":[{"type":"url","url":"https://x"}]}', "mcp_servers", ANY, state(3650)),
    (COUNT, b'{"inference_geo":"us"}', "inference_geo", US, EU),
    (COUNT, b'{"tools":[{"type":"code_execution_20260521","name":"c"}]}', "tools", state(30), state(29)),
    (CHAT, b'{"prompt_cache_options":{"mode":"explicit","ttl":"12h"}}', "prompt_cache_options", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_options":{"ttl":"12h"}}', "prompt_cache_options", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_options":{"ttl":"12h","ttl":"30m"}}', "prompt_cache_options", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_options":{"tt\\u006c":"12h"}}', "prompt_cache_options", state(1), NO_TRAINING),
    (RESPONSES, b'{"prompt_cache_options":"12h"}', "prompt_cache_options", state(1), NO_TRAINING),
    *(
        (name, b'{"provider":{"order":["x"],"data_collection":"allow"}}', "provider", ANY, NO_TRAINING)
        for name in (CHAT, RESPONSES, MESSAGES, COUNT, "completions", "embeddings")
    ),
    *(
        (name, b'{"plugins":[{"id":"web"}]}', "plugins", ANY, NO_TRAINING)
        for name in (CHAT, RESPONSES, MESSAGES, COUNT, "completions", "embeddings")
    ),
]

INLINE = b'{"messages":[{"role":"system","content":[{"type":"tool_addition","tool":%b}]}]}'
BREAKPOINT = (
    b'{"%b":[{"role":"user","content":[{"text":"x","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]}]}'
)
# The same as above, but inside of the conversation.
INSIDE = [
    (RESPONSES, b'{"input":[{"type":"additional_tools","tools":[{"type":"mcp"}]}]}', "tools", ANY, NO_TRAINING),
    (RESPONSES, b'{"input":[{"tool\\u0073":[{"type":"mcp"}]}]}', "tools", ANY, NO_TRAINING),
    (
        RESPONSES,
        b'{"input":[{"type":"tool_search_output","tools":[{"type":"shell"}]}]}',
        "tools",
        state(1),
        NO_TRAINING,
    ),
    (
        RESPONSES,
        b'{"input":[{"type":"additional_tools","tools":[{"type":"namespace","tools":[{"type":"mcp"}]}]}]}',
        "tools",
        ANY,
        NO_TRAINING,
    ),
    (RESPONSES, b'{"input":[{"tools":[{"type":1e999}]}]}', "input", ANY, NO_TRAINING),
    (MESSAGES, INLINE % b'{"type":"code_execution_20260521"}', "tools", state(30), state(29)),
    (
        MESSAGES,
        INLINE % b'{"type":"tool_definition","definition":{"type":"code_execution_20260521"}}',
        "tools",
        state(30),
        state(29),
    ),
    (COUNT, INLINE % b'{"definition":{"type":"mcp_toolset"},"type":"tool_definition"}', "tools", ANY, NO_TRAINING),
    (CHAT, BREAKPOINT % b"messages", "prompt_cache_breakpoint", state(1), NO_TRAINING),
    (RESPONSES, BREAKPOINT % b"input", "prompt_cache_breakpoint", state(1), NO_TRAINING),
]


@pytest.mark.parametrize(("route", "body", "field", "enough", "less"), [*CASES, *INSIDE])
def test_refused_below_its_bound(route: str, body: bytes, field: str, enough: Policy, less: Policy) -> None:
    """The field is named under any narrower policy and passes under a wide enough one."""
    fields = read_fields(ROUTE[route], body)
    assert forbidden_field(ROUTE[route], fields, less) == field
    assert forbidden_field(ROUTE[route], fields, enough) is None
    assert forbidden_field(ROUTE[route], fields, ANY) is None


def test_every_row_has_a_case() -> None:
    """Route by route and field by field; and a refusal may name each."""
    rows = {(route, name) for route, fields in _ROWS.items() for name in fields}
    others = {(route, name) for route in ("completions", "embeddings") for name in _EVERYWHERE}
    assert rows | others == {(route, field) for route, _, field, _, _ in CASES}
    assert {field for _, _, field, _, _ in [*CASES, *INSIDE]} <= FIELDS


@pytest.mark.parametrize(
    ("route", "body"),
    [
        (CHAT, b'{"prompt_cache_retention":"in_memory","modalities":["text"],"tools":[{"type":"function"}]}'),
        (CHAT, b'{"prompt_cache_retention":null,"modalities":null,"tools":null,"web_search_options":{}}'),
        (CHAT, b'{"messages":[{"content":"mcp","tools":[{"type":"mcp"}]}],"metadata":{"type":"mcp"}}'),
        (CHAT, b'{"tools":[{"type":"function","function":{"name":"mcp","parameters":{"type":"mcp"}}}]}'),
        (RESPONSES, b'{"tools":[{"type":"web_search"},{"type":"custom","name":"shell"},{"type":"local_shell"}]}'),
        (MESSAGES, b'{"mcp_servers":[],"inference_geo":null,"tools":[{"type":"web_search_20260209"}]}'),
        (MESSAGES, b'{"tools":[{"name":"mcp","input_schema":{"type":"object"}},{"type":"bash_20250124"}]}'),
        (MESSAGES, b'{"system":[{"type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}]}'),
        ("embeddings", b'{"input":"x","tools":[{"type":"mcp"}]}'),
        (COUNT, b'{"mcp_servers":[],"inference_geo":null,"tools":[{"type":"bash_20250124","name":"bash"}]}'),
        (CHAT, b'{"prompt_cache_options":{"mode":"explicit","ttl":"30m"},"provider":null,"plugins":[]}'),
        (RESPONSES, b'{"prompt_cache_options":{"prewarm":true,"ttl":null}}'),
        (CHAT, b'{"provider":{"data_collection":"deny","zdr":true,"sort":"price","only":["azure"]}}'),
        (CHAT, b'{"messages":[{"content":[{"text":"12h","prompt_cache_breakpoint":{"mode":"explicit"}}]}]}'),
        (CHAT, b'{"messages":[{"content":[{"text":"x","prompt_cache_breakpoint":{"ttl":"30m"}}]}]}'),
        (RESPONSES, b'{"input":[{"type":"additional_tools","tools":[{"type":"function","name":"mcp"}]}]}'),
        (RESPONSES, b'{"input":[{"type":"mcp_list_tools","tools":[{"name":"mcp","input_schema":{"type":"mcp"}}]}]}'),
        (RESPONSES, b'{"input":[{"type":"function_call","arguments":"{\\"tools\\":[{\\"type\\":\\"mcp\\"}]}"}]}'),
        (RESPONSES, b'{"input":[{"type":"function_call_output","output":"{\\"type\\":\\"mcp\\"}"}]}'),
        (RESPONSES, b'{"input":[{"type":"tool_search_call","arguments":{"tools":[{"type":"mcp"}]}}]}'),
        (MESSAGES, INLINE % b'{"type":"tool_reference","name":"code_execution"}'),
        (MESSAGES, INLINE % b'{"type":"tool_definition","definition":{"name":"mcp","input_schema":{"type":"mcp"}}}'),
        (MESSAGES, b'{"messages":[{"content":[{"type":"tool_use","input":{"tool":{"type":"mcp_toolset"}}}]}]}'),
        (MESSAGES, b'{"messages":[{"content":[{"type":"text","text":"\\"tool\\":{\\"type\\":\\"mcp\\"}"}]}]}'),
    ],
)
def test_what_keeps_nothing_passes(route: str, body: bytes) -> None:
    """The strictest policy lets ordinary requests through, and words inside of them are not fields."""
    strictest = Policy.of(frozenset({"eu"}), RetentionKind.NONE, None, Training.NEVER)
    assert forbidden_field(ROUTE[route], read_fields(ROUTE[route], body), strictest) is None
