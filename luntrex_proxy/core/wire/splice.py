"""The permitted changes to a request body, each a splice of one field; all other bytes stay as the client sent them.

    model              alias -> the upstream's name
    store              responses: always false; chat/completions: false when the client says anything else
    stream_options     include_usage added when we need the usage and the client did not ask for it

What would need state at the provider is not changed but refused: `refused_field`.
"""

from typing import Any

import msgspec

from luntrex_proxy.core.call import Grammar, Route
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE, Members, find_spans, read_members

_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_JUST_USAGE = b'{"include_usage":true}'


class _Item(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    role: Any = None


class _Tool(msgspec.Struct, gc=False):
    vector_store_ids: Any = None
    container: Any = None


# Only the named keys become objects. A search for the words first would have to look for their escapes as well, and
# then takes as long as this.
_ITEMS = msgspec.json.Decoder(list[_Item | list[Any] | str | float | bool | None])
_TOOLS = msgspec.json.Decoder(list[_Tool | list[Any] | str | float | bool | None])


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What to change, besides `store`, which follows from the route alone."""

    model: str | None = None  # None: the client's name stays
    include_usage: bool = False


def refused_field(route: Route, fields: Fields) -> str | None:
    """The first field that asks for state at the provider, or None.

    Ids of files inside content pass for now: an argument of the client's own tools may be called file_id as well.
    """
    members = fields.members
    if route.name == "messages":
        return "container" if bytes(members.get("container", b"null")) != b"null" else None
    if route.name != "responses":
        return None
    for name in _STATEFUL:
        raw = members.get(name)
        if raw is not None and bytes(raw) != b"null" and not (name == "background" and bytes(raw) == b"false"):
            return name
    if "input" in members and _refers_to_items(members["input"]):
        return "input"
    return "tools" if "tools" in members and _uses_stores(members["tools"]) else None


def _refers_to_items(raw: msgspec.Raw) -> bool:
    """Whether an item stands for one that the provider keeps. Its `type` may be left out: then it is just an id."""
    if not bytes(raw).startswith(b"["):
        return False
    try:
        items = _ITEMS.decode(raw)
    except UNREADABLE:  # fail closed: what can't be looked through might hold one
        return True
    return any(
        item.type == "item_reference" or (item.type is None and item.role is None and item.id is not None)
        for item in items
        if type(item) is _Item
    )


def _uses_stores(raw: msgspec.Raw) -> bool:
    """Whether a tool searches the provider's vector stores or goes on in one of its containers."""
    if not bytes(raw).startswith(b"["):
        return False
    try:
        tools = _TOOLS.decode(raw)
    except UNREADABLE:
        return True
    return any(tool.vector_store_ids or type(tool.container) is str for tool in tools if type(tool) is _Tool)


def rewrite(route: Route, body: bytes, fields: Fields, changes: Changes) -> bytes:
    """The body with the changes spliced in; the very same object when there are none."""
    members = fields.members
    values: dict[str, bytes] = {}
    if changes.model is not None and changes.model != fields.model:
        values["model"] = msgspec.json.encode(changes.model)
    if route.name == "responses":
        if "store" not in members or bytes(members["store"]) != b"false":
            values["store"] = b"false"
    elif route.grammar is Grammar.CHAT:
        if "store" in members and bytes(members["store"]) not in (b"false", b"null"):
            values["store"] = b"false"
        if changes.include_usage and not fields.include_usage:
            values["stream_options"] = _with_usage(members.get("stream_options"))
    return _splice(body, members, values) if values else body


def _with_usage(raw: msgspec.Raw | None) -> bytes:
    options = None if raw is None else read_members(raw)
    if raw is None or options is None:  # absent or null
        return _JUST_USAGE
    return _splice(bytes(raw), options, {"include_usage": b"true"})


def _splice(data: bytes, members: Members, values: dict[str, bytes]) -> bytes:
    """`data` with these values: in place for members it has, at the start of the object for others."""
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
