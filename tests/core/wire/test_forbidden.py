"""Request fields that ask a provider for more than a policy allows: one case per row of the table, and its bound."""

import pytest

from luntrex_proxy.core.call import ROUTES
from luntrex_proxy.core.policy import NO_TRAINING, Policy, RetentionKind, Training
from luntrex_proxy.core.refusals import FIELDS
from luntrex_proxy.core.wire.fields import read_fields
from luntrex_proxy.core.wire.forbidden import _ROWS, forbidden_field

ROUTE = {route.name: route for route in ROUTES}
CHAT, RESPONSES, MESSAGES = "chat.completions", "responses", "messages"


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
]


@pytest.mark.parametrize(("route", "body", "field", "enough", "less"), CASES)
def test_refused_below_its_bound(route: str, body: bytes, field: str, enough: Policy, less: Policy) -> None:
    """The field is named under any narrower policy and passes under a wide enough one."""
    fields = read_fields(ROUTE[route], body)
    assert forbidden_field(ROUTE[route], fields, less) == field
    assert forbidden_field(ROUTE[route], fields, enough) is None
    assert forbidden_field(ROUTE[route], fields, ANY) is None


def test_every_row_has_a_case() -> None:
    """Route by route and field by field; and a refusal may name each."""
    rows = {(route, name) for route, fields in _ROWS.items() for name, _ in fields}
    assert rows == {(route, field) for route, _, field, _, _ in CASES}
    assert {name for _, name in rows} <= FIELDS


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
    ],
)
def test_what_keeps_nothing_passes(route: str, body: bytes) -> None:
    """The strictest policy lets ordinary requests through, and words inside of them are not fields."""
    strictest = Policy.of(frozenset({"eu"}), RetentionKind.NONE, None, Training.NEVER)
    assert forbidden_field(ROUTE[route], read_fields(ROUTE[route], body), strictest) is None
