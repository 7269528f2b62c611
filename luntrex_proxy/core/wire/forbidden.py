"""Request fields that make a provider keep more, or tell others more, than a policy allows. One table: `_ROWS`.

What would need state that another account could reach is refused whatever the policy says: `splice.refused_field`.
Looked at and let through, because the provider's own declared retention covers them: Anthropic's `cache_control` (held
in memory only), `service_tier`, the providers' own web search and fetch, `metadata` (kept only with a stored answer,
and `store` is false always).
"""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.policy import Policy
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.parts import (
    NULL,
    SPOKEN_IN,
    Tool,
    every_part,
    every_tool,
    read_option,
    read_tools,
)

_EMPTY = (NULL, b"[]", b"{}")
_TEXT = msgspec.json.Decoder(str)
_TEXTS = msgspec.json.Decoder(list[str])

Rule = Callable[[msgspec.Raw, Policy], bool]  # whether the value goes beyond the policy


def forbidden_names(route: Route) -> frozenset[str]:
    """The names of the fields that are looked at."""
    return frozenset(_ROWS.get(route.name, _EVERYWHERE))


def forbidden_field(route: Route, fields: Fields, policy: Policy) -> str | None:
    """The first field by which the request asks for more than `policy` allows, or None."""
    members = fields.members
    rows = _ROWS.get(route.name, _EVERYWHERE)
    if not rows.keys().isdisjoint(members):
        for name, exceeds in rows.items():
            if name in members and exceeds(members[name], policy):
                return name
    parts = fields.parts
    if parts is None:  # fail closed: what can't be looked through might hold one
        return None if policy.allows_strangers() else SPOKEN_IN[route.name]
    return _forbidden_part(parts, policy) if parts else None


def _forbidden_part(parts: list[Any], policy: Policy) -> str | None:
    """The same tools and cache times, where they stand in the middle of a conversation."""
    tools: list[Any] = []
    for part in every_part(parts):
        if part.tools or part.tool:
            tools += (part.tools, part.tool)
        point = part.prompt_cache_breakpoint
        if type(point) is dict and point.get("ttl") not in _SHORT and not policy.allows_state(1):
            return "prompt_cache_breakpoint"
    return "tools" if _any_exceeds(every_tool(tools), policy) else None


def _extended_cache(raw: msgspec.Raw, policy: Policy) -> bool:
    """OpenAI keeps the prompt's tensors on disks for up to 24 h, which it counts as application state."""
    return _text(raw) not in ("in_memory", "in-memory", None) and not policy.allows_state(1)


def _long_cache(raw: msgspec.Raw, policy: Policy) -> bool:
    """The same in newer words."""
    return _text(read_option(raw, "ttl")) not in _SHORT and not policy.allows_state(1)


def _spoken_answer(raw: msgspec.Raw, policy: Policy) -> bool:
    """OpenAI keeps audio answers for an hour, for the next turn to refer to."""
    if policy.allows_state(1):
        return False
    try:
        return "audio" in _TEXTS.decode(raw)
    except UNREADABLE:
        return bytes(raw) != NULL


def _elsewhere(raw: msgspec.Raw, policy: Policy) -> bool:
    """Anthropic runs the model where the request says; `us` is a place, `global` is none."""
    geo = _text(raw)
    return geo is not None and policy.regions is not None and geo.lower() not in policy.regions


def _remote_servers(raw: msgspec.Raw, policy: Policy) -> bool:
    """Servers (or plugins) that the request names get parts of the conversation; nothing is known of them."""
    return bytes(raw) not in _EMPTY and not policy.allows_strangers()


def _collecting_hosts(raw: msgspec.Raw, policy: Policy) -> bool:
    """OpenRouter picks among hosts, of which some keep what they get or train on it; other options only narrow that."""
    return _text(read_option(raw, "data_collection")) not in ("deny", None) and not policy.allows_strangers()


def _hosted_tools(raw: msgspec.Raw, policy: Policy) -> bool:
    """Code that runs at the provider leaves its files there; tools over MCP are remote servers."""
    tools = read_tools(raw)
    if tools is None:
        return not policy.allows_strangers()
    return _any_exceeds(every_tool(tools), policy)


def _any_exceeds(tools: Iterable[Tool], policy: Policy) -> bool:
    return any(_exceeds(tool.type, policy) for tool in tools if type(tool.type) is str)


def _exceeds(kind: str, policy: Policy) -> bool:
    if kind in ("code_interpreter", "shell"):  # OpenAI: the container ends after 20 idle minutes
        return not policy.allows_state(1)
    if kind.startswith("code_execution"):  # Anthropic: the container's files are kept for 30 days
        return not policy.allows_state(30)
    return kind in ("mcp", "mcp_toolset") and not policy.allows_strangers()


def _text(raw: msgspec.Raw | bytes) -> str | None:
    """The text of a value; None for null; an empty one for what is no text."""
    if bytes(raw) == NULL:
        return None
    try:
        return _TEXT.decode(raw)
    except UNREADABLE:
        return ""


_SHORT = ("30m", None)  # the shortest time of OpenAI's prompt cache, and no word about it
# route -> field -> whether its value goes beyond a policy
_EVERYWHERE: dict[str, Rule] = {"provider": _collecting_hosts, "plugins": _remote_servers}  # OpenRouter
_OF_OPENAI: dict[str, Rule] = {
    **_EVERYWHERE,
    "prompt_cache_retention": _extended_cache,
    "prompt_cache_options": _long_cache,
    "modalities": _spoken_answer,
    "tools": _hosted_tools,
}
_OF_ANTHROPIC: dict[str, Rule] = {
    **_EVERYWHERE,
    "mcp_servers": _remote_servers,
    "inference_geo": _elsewhere,
    "tools": _hosted_tools,
}
_ROWS: dict[str, dict[str, Rule]] = {
    "chat.completions": _OF_OPENAI,
    "responses": _OF_OPENAI,
    "messages": _OF_ANTHROPIC,
    "messages.count_tokens": _OF_ANTHROPIC,
}
