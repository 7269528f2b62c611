"""The permitted changes to a request body, each a splice of one field; all other bytes stay as the client sent them.

    model              alias -> the upstream's name
    store              responses: always false; chat/completions: false when the client says anything else
    stream_options     include_usage added when we need the usage and the client did not ask for it

What would need state at the provider is not changed but refused: `refused_field`.
"""

import msgspec

from luntrex_proxy.core.call import Grammar, Route
from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import Members, find_spans, read_members

_STATEFUL = ("previous_response_id", "conversation", "background", "prompt")
_JUST_USAGE = b'{"include_usage":true}'


class Changes(msgspec.Struct, frozen=True, gc=False):
    """What to change, besides `store`, which follows from the route alone."""

    model: str | None = None  # None: the client's name stays
    include_usage: bool = False


def refused_field(route: Route, fields: Fields) -> str | None:
    """The first field that asks for state at the provider, or None."""
    if route.name != "responses":
        return None
    for name in _STATEFUL:
        raw = fields.members.get(name)
        if raw is not None and bytes(raw) != b"null" and not (name == "background" and bytes(raw) == b"false"):
            return name
    return None


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
