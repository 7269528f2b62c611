"""The permitted changes to a request body, each a splice of one field; all other bytes stay as the client sent them.

    model              alias -> the upstream's name
    store              responses: always false; chat/completions: false when the client says anything else, and where
                       the provider keeps chats unless told otherwise
    stream_options     include_usage added when we need the usage and the client did not ask for it
    end-user ids       replaced or removed (endusers.py)

What would need state at the provider, or ask another model, is not changed but refused: `refused_field`.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from luntrex_proxy.core.call import CHAT, RESPONSES, Route
from luntrex_proxy.core.wire.endusers import END_USER_FIELDS, EndUserIds
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import Members, find_spans, read_members
from luntrex_proxy.core.wire.parts import (
    NULL,
    SPOKEN_IN,
    Part,
    Place,
    Tool,
    every_part,
    every_tool,
    read_option,
    read_tools,
)

_JUST_USAGE = b'{"include_usage":true}'
# What `rewrite` looks at, besides the model and what is to be added: without any of them nothing else is changed.
CHANGEABLE = frozenset({"store", *END_USER_FIELDS})


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What to change, besides `store`, which follows from the route alone."""

    model: str | None = None  # None: the client's name stays
    include_usage: bool = False
    store_false: bool = False  # chat/completions: say it even when the client says nothing
    end_users: EndUserIds | None = None  # None: their ids pass


def refused_names(route: Route) -> frozenset[str]:
    """The names of the fields that are looked at."""
    return frozenset(_ROWS.get(route.name, _EVERYWHERE))


def refused_field(route: Route, fields: Fields) -> str | None:
    """The first field that asks for state at the provider, or for a model that the catalogue did not resolve, or None.

    All accounts share one account there, so an id of something kept may be another's.
    """
    members = fields.members
    rows = _ROWS.get(route.name, _EVERYWHERE)
    if not rows.keys().isdisjoint(members):
        for name, is_refused in rows.items():
            if name in members and is_refused(members[name]):
                return name
    parts = fields.parts
    if parts is None:  # fail closed: what can't be looked through might hold one
        return SPOKEN_IN[route.name]
    return _refused_part(route, parts) if parts else None


def _refused_part(route: Route, parts: list[Any]) -> str | None:
    tools: list[Any] = []
    for part in every_part(parts):
        if part.file_id is not None:
            return "file_id"
        if type(part.audio) is Part and part.audio.id is not None:  # an earlier answer that the provider keeps
            return "audio"
        if part.tools or part.tool:
            tools += (part.tools, part.tool)
    if any(map(_is_kept, every_tool(tools))):
        return "tools"
    if route.grammar is RESPONSES and any(_stands_for_another(part) for part in parts if type(part) is Part):
        return SPOKEN_IN[route.name]
    return None


def _stands_for_another(item: Part) -> bool:
    """Whether the provider would look up what it keeps under an id. A `type` may be left out: then it is just an id."""
    if item.type is None:
        return item.role is None and item.id is not None
    if item.type == "item_reference" or item.container_id is not None or _is_old(item.environment):
        return True
    carries = _CARRIES.get(item.type) if type(item.type) is str else None
    return item.id is not None and carries is not None and not carries(item)


def _is_kept(tool: Tool) -> bool:
    """Whether a tool is one of the provider account's own, works on something kept, or asks another model."""
    return bool(
        tool.vector_store_ids
        or tool.tunnel_id is not None
        or _is_old(tool.container)
        or _is_old(tool.environment)
        or _is_old(tool.input_image_mask)
        or (type(tool.type) is str and tool.type.startswith("advisor_"))
    )


def _is_old(place: object) -> bool:
    """Whether work is to go on where files already are: a container's id, or what to put into a new one."""
    if type(place) is not Place:
        return type(place) is str
    return bool(place.file_ids or place.container_id or place.file_id or _has_kept_skill(place.skills))


def _has_kept_skill(skills: object) -> bool:
    return type(skills) is list and any(type(skill) is dict and "skill_id" in skill for skill in skills)


def _uses_state(raw: msgspec.Raw) -> bool:
    tools = read_tools(raw)
    return tools is None or any(map(_is_kept, every_tool(tools)))


def _is_given(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (NULL, b"[]")


def _is_on(raw: msgspec.Raw) -> bool:
    return bytes(raw) not in (NULL, b"false")


def _compares_answers(raw: msgspec.Raw) -> bool:
    return read_option(raw, "comparison_response_id") != NULL


def _compares_messages(raw: msgspec.Raw) -> bool:
    return read_option(raw, "previous_message_id") != NULL


def _has_own_voice(raw: msgspec.Raw) -> bool:
    """Whether the voice is one that the provider account made; the built-in ones are plain names."""
    voice = read_option(raw, "voice")
    return voice != NULL and not voice.startswith(b'"')


# item -> whether it says itself what it stands for, so that its id is not looked up. Not a reasoning's summary: OpenAI
# looks up what was thought unless it is there, open or encrypted.
_CARRIES: dict[str, Callable[[Part], bool]] = {
    "image_generation_call": lambda item: len(item.result) > len(NULL),  # neither null nor ""
    "reasoning": lambda item: bool(item.content) or len(item.encrypted_content) > len(NULL),
}
# route -> field -> whether its value is refused
_Rows = dict[str, Callable[[msgspec.Raw], bool]]
# OpenRouter: other models to ask, and settings stored in the account.
_EVERYWHERE: _Rows = {"models": _is_given, "route": _is_given, "preset": _is_given}
_OF_MESSAGES: _Rows = {
    **_EVERYWHERE,
    "thread": _is_given,
    "container": _is_given,
    "diagnostics": _compares_messages,
    "fallbacks": _is_given,
    "tools": _uses_state,
}
_ROWS: dict[str, _Rows] = {
    "chat.completions": {**_EVERYWHERE, "prompt_cache_options": _compares_answers, "audio": _has_own_voice},
    "responses": {
        **_EVERYWHERE,
        "previous_response_id": _is_given,
        "conversation": _is_given,
        "background": _is_on,
        "prompt": _is_given,
        "prompt_cache_options": _compares_answers,
        "tools": _uses_state,
    },
    "messages": _OF_MESSAGES,
    "messages.count_tokens": _OF_MESSAGES,
}


def rewrite(route: Route, body: bytes, fields: Fields, changes: Changes, account_id: int) -> bytes:
    """The body with the changes spliced in; the very same object when there are none. `account_id`: whose it is."""
    members = fields.members
    values: dict[str, bytes] = {}
    if changes.model is not None and changes.model != fields.model:
        values["model"] = msgspec.json.encode(changes.model)
    if route.name == "responses":
        if "store" not in members or bytes(members["store"]) != b"false":
            values["store"] = b"false"
    elif route.grammar is CHAT:
        silent = "store" not in members or bytes(members["store"]) == b"null"
        if changes.store_false and route.name == "chat.completions" if silent else bytes(members["store"]) != b"false":
            values["store"] = b"false"
        if changes.include_usage and not fields.include_usage:
            values["stream_options"] = _with_usage(members.get("stream_options"))
    if changes.end_users is not None:
        changes.end_users.replace(members, account_id, values)
    return _splice(body, members, values) if values else body


def _with_usage(raw: msgspec.Raw | None) -> bytes:
    options = None if raw is None else read_members(raw)
    if raw is None or options is None:  # absent or null
        return _JUST_USAGE
    return _splice(bytes(raw), options, {"include_usage": b"true"})


def _splice(data: bytes, members: Members, values: dict[str, bytes]) -> bytes:
    """`data` with these values: in place for members it has, at the start of the object for others; b"" removes."""
    if b"" in values.values():
        data, members = _without(data, members, values)
        values = {name: value for name, value in values.items() if value}
    view = memoryview(data)  # slices of a prompt that may be megabytes; the join is the only copy
    begin = data.index(b"{") + 1
    pieces: list[bytes | memoryview] = [view[:begin]]
    added = [b'"%b":%b' % (name.encode(), value) for name, value in values.items() if name not in members]
    if added:
        pieces.append(b",".join(added))
        if members:
            pieces.append(b",")
    if len(added) < len(values):
        spans = find_spans(data, members)
        if spans is None:
            raise ValueError("members were not read from this data")
        for _, start, end, name in sorted((*spans[name], name) for name in values if name in members):
            pieces += (view[begin:start], values[name])
            begin = end
    pieces.append(view[begin:])
    return b"".join(pieces)


def _without(data: bytes, members: Members, values: dict[str, bytes]) -> tuple[bytes, Members]:
    """`data` and its members without those that are to have no value; what stays keeps its bytes."""
    spans = find_spans(data, members)
    if spans is None:
        raise ValueError("members were not read from this data")
    kept = {name: raw for name, raw in members.items() if values.get(name) != b""}
    view = memoryview(data)
    # A member begins at its comma or brace, after white space.
    starts = (data.index(b"{" if spans[name][0] == 0 else b",", spans[name][0]) + 1 for name in kept)
    pieces = [view[start : spans[name][2]] for start, name in zip(starts, kept, strict=True)]
    return b"".join((b"{", b",".join(pieces), b"}")), kept
