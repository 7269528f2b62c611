"""Request fields that make a provider keep more, or tell others more, than a policy allows. One table: `_ROWS`.

What would need state that another account could reach is refused whatever the policy says: `splice.refused_field`.
Looked at and let through, because the provider's own declared retention covers them: Anthropic's `cache_control` (held
in memory only), `service_tier`, the providers' own web search and fetch, `metadata` (kept only with a stored answer,
and `store` is false always).
"""

from collections.abc import Callable
from typing import Any

import msgspec

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE

_CHAT, _RESPONSES, _MESSAGES = "chat.completions", "responses", "messages"
_EMPTY = (b"null", b"[]", b"{}")


class _Tool(msgspec.Struct, gc=False):
    type: Any = None


_TOOLS = msgspec.json.Decoder(list[_Tool | list[Any] | str | float | bool | None])
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])

Rule = Callable[[msgspec.Raw, Policy], bool]  # whether the value goes beyond the policy


def forbidden_field(route: Route, fields: Fields, policy: Policy) -> str | None:
    """The first field by which the request asks for more than `policy` allows, or None."""
    rows = _ROWS.get(route.name)
    if rows is None:
        return None
    members = fields.members
    for name, exceeds in rows:
        if name in members and exceeds(members[name], policy):
            return name
    return None


def _extended_cache(raw: msgspec.Raw, policy: Policy) -> bool:
    """OpenAI keeps the prompt's tensors on disks for up to 24 h, which it counts as application state."""
    return _text(raw) not in ("in_memory", "in-memory", None) and not policy.allows_state(1)


def _spoken_answer(raw: msgspec.Raw, policy: Policy) -> bool:
    """OpenAI keeps audio answers for an hour, for the next turn to refer to."""
    if policy.allows_state(1):
        return False
    try:
        return "audio" in _TEXTS.decode(raw)
    except UNREADABLE:
        return bytes(raw) != b"null"


def _elsewhere(raw: msgspec.Raw, policy: Policy) -> bool:
    """Anthropic runs the model where the request says; `us` is a place, `global` is none."""
    geo = _text(raw)
    return geo is not None and policy.regions is not None and geo.lower() not in policy.regions


def _remote_servers(raw: msgspec.Raw, policy: Policy) -> bool:
    """Servers that the request names get parts of the conversation; nothing is known of them."""
    return bytes(raw) not in _EMPTY and not policy.allows_strangers()


def _hosted_tools(raw: msgspec.Raw, policy: Policy) -> bool:
    """Code that runs at the provider leaves its files there; tools over MCP are remote servers."""
    if not bytes(raw).startswith(b"["):
        return False
    try:
        tools = _TOOLS.decode(raw)
    except UNREADABLE:  # fail closed: what can't be looked through might hold one
        return not policy.allows_strangers()
    return any(_exceeds(tool.type, policy) for tool in tools if type(tool) is _Tool and type(tool.type) is str)


def _exceeds(kind: str, policy: Policy) -> bool:
    if kind in ("code_interpreter", "shell"):  # OpenAI: the container ends after 20 idle minutes
        return not policy.allows_state(1)
    if kind.startswith("code_execution"):  # Anthropic: the container's files are kept for 30 days
        return not policy.allows_state(30)
    return kind in ("mcp", "mcp_toolset") and not policy.allows_strangers()


def _text(raw: msgspec.Raw) -> str | None:
    """The text of a value; None for null; an empty one for what is no text."""
    if bytes(raw) == b"null":
        return None
    try:
        return _TEXT.decode(raw)
    except UNREADABLE:
        return ""


# route -> (field, whether its value goes beyond a policy)
_ROWS: dict[str, tuple[tuple[str, Rule], ...]] = {
    _CHAT: (
        ("prompt_cache_retention", _extended_cache),
        ("modalities", _spoken_answer),
        ("tools", _hosted_tools),
    ),
    _RESPONSES: (
        ("prompt_cache_retention", _extended_cache),
        ("modalities", _spoken_answer),
        ("tools", _hosted_tools),
    ),
    _MESSAGES: (
        ("mcp_servers", _remote_servers),
        ("inference_geo", _elsewhere),
        ("tools", _hosted_tools),
    ),
}
