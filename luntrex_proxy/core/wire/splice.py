"""The permitted changes to a request body, each a splice of one field; all other bytes stay as the client sent them.

    model              alias -> the upstream's name
    store              responses: always false; chat/completions: false when the client says anything else, and where
                       the provider keeps chats unless told otherwise
    stream_options     include_usage added when we need the usage and the client did not ask for it
    end-user ids       replaced or removed (endusers.py)

What would need state at the provider is not changed but refused: `refused_field`.
"""

from typing import Any

import msgspec

from luntrex_proxy.core.call import Grammar, Route
from luntrex_proxy.core.wire.endusers import EndUserIds
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE, Members, find_spans, read_members

_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_JUST_USAGE = b'{"include_usage":true}'


class _Item(msgspec.Struct, gc=False):
    type: Any = None
    id: Any = None
    role: Any = None


class _Place(msgspec.Struct, gc=False):
    file_ids: Any = None  # of the code interpreter's new container
    container_id: Any = None  # of a shell's old one


class _Tool(msgspec.Struct, gc=False):
    vector_store_ids: Any = None
    container: _Place | list[Any] | str | float | bool | None = None
    environment: _Place | list[Any] | str | float | bool | None = None


class _Part(msgspec.Struct, gc=False):
    """A message, an item or a part of one: all places where the APIs take the id of an uploaded file."""

    file_id: Any = None
    file: "_Part | list[Any] | str | float | bool | None" = None
    source: "_Part | list[Any] | str | float | bool | None" = None
    content: "_Part | list[_Part | list[Any] | str | float | bool | None] | str | float | bool | None" = None
    output: "_Part | list[_Part | list[Any] | str | float | bool | None] | str | float | bool | None" = None


# Only the named keys become objects. A search for the words first would have to look for their escapes as well, and
# then takes as long as this.
_ITEMS = msgspec.json.Decoder(list[_Item | list[Any] | str | float | bool | None])
_TOOLS = msgspec.json.Decoder(list[_Tool | list[Any] | str | float | bool | None])
_PARTS = msgspec.json.Decoder(list[_Part | list[Any] | str | float | bool | None])
_SPOKEN_IN = {"chat.completions": "messages", "messages": "messages", "responses": "input"}


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What to change, besides `store`, which follows from the route alone."""

    model: str | None = None  # None: the client's name stays
    include_usage: bool = False
    store_false: bool = False  # chat/completions: say it even when the client says nothing
    end_users: EndUserIds | None = None  # None: their ids pass
    account_id: int = 0


def refused_field(route: Route, fields: Fields) -> str | None:
    """The first field that asks for state at the provider, or None.

    All accounts share one account there, so an id of something kept may be another's.
    """
    members = fields.members
    spoken = members.get(_SPOKEN_IN.get(route.name, ""))
    if spoken is not None and _names_files(bytes(spoken)):
        return "file_id"
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
    return any(
        tool.vector_store_ids or _is_old(tool.container) or _is_old(tool.environment)
        for tool in tools
        if type(tool) is _Tool
    )


def _is_old(place: object) -> bool:
    """Whether code is to run where files already are: a container's id, or files to put into a new one."""
    return type(place) is str or (type(place) is _Place and bool(place.file_ids or place.container_id))


def _names_files(spoken: bytes) -> bool:
    """Whether a message carries an uploaded file by its id. An argument of the client's own tools may be called so too.

    The words are looked for first, because nearly every prompt can be let through by that: plain, or with an ASCII
    letter written as an escape.
    """
    if b"file_id" not in spoken and b"\\u00" not in spoken:
        return False
    if not spoken.startswith(b"["):
        return False
    try:
        return any(_has_file(part) for part in _PARTS.decode(spoken))
    except UNREADABLE:  # fail closed: what can't be looked through might hold one
        return True


def _has_file(part: object) -> bool:
    if type(part) is list:
        return any(_has_file(inner) for inner in part)
    if type(part) is not _Part:
        return False
    return part.file_id is not None or any(map(_has_file, (part.file, part.source, part.content, part.output)))


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
        silent = "store" not in members or bytes(members["store"]) == b"null"
        if changes.store_false and route.name == "chat.completions" if silent else bytes(members["store"]) != b"false":
            values["store"] = b"false"
        if changes.include_usage and not fields.include_usage:
            values["stream_options"] = _with_usage(members.get("stream_options"))
    if changes.end_users is not None:
        changes.end_users.replace(members, changes.account_id, values)
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
