"""What a request may carry by id or declare as a tool, wherever in it; all other members are skipped, never decoded.

messages / input -> Part: a message, an item, or a block of one
                      `-> Tool: declared in the middle of a conversation, as in the top-level `tools`
"""

import struct
from collections.abc import Iterator
from typing import Any

import msgspec

from luntrex_proxy.core.call import CHAT, Route
from luntrex_proxy.core.wire.members import UNREADABLE, Members, are_compact, find_spans, read_members

NULL = b"null"
UNCLEAR = b""  # no JSON value is empty

_Other = list[Any] | str | float | bool | None
_NOTHING = msgspec.Raw(NULL)
_LIST = (b"[",)
_TEXT_OR_NULL = ((b'"',), (b"n",))
_first_of = struct.Struct("c").unpack_from  # the first byte of a value; no other way is as quick, and none copies less
_NO_PARTS: list[Any] = []


class Place(msgspec.Struct, gc=False):
    """Where code runs, or what else a tool works on."""

    file_ids: Any = None  # of a new container
    container_id: Any = None  # of an old one
    skills: Any = None
    file_id: Any = None  # of an image's mask


class Tool(msgspec.Struct, gc=False):
    """One that the provider offers, or the client's own; or what adds one to a conversation."""

    type: Any = None
    vector_store_ids: Any = None
    tunnel_id: Any = None
    container: Place | _Other = None
    environment: Place | _Other = None
    input_image_mask: Place | _Other = None
    tools: "list[Tool | _Other] | Tool | str | float | bool | None" = None  # of a namespace
    definition: "Tool | _Other" = None  # of an Anthropic tool given by value


class Part(msgspec.Struct, gc=False):
    """A message, an item or a block of one."""

    type: Any = None
    id: Any = None
    role: Any = None
    file_id: Any = None
    container_id: Any = None
    prompt_cache_breakpoint: Any = None
    result: msgspec.Raw = _NOTHING  # raw, because an image is large
    encrypted_content: msgspec.Raw = _NOTHING
    environment: Place | _Other = None
    tools: list[Tool | _Other] | Tool | str | float | bool | None = None
    tool: Tool | _Other = None
    audio: "Part | _Other" = None
    file: "Part | _Other" = None
    source: "Part | _Other" = None
    content: "list[Part | _Other] | Part | str | float | bool | None" = None
    output: "list[Part | _Other] | Part | str | float | bool | None" = None


class _Message(msgspec.Struct, gc=False):
    file_id: msgspec.Raw = _NOTHING
    audio: msgspec.Raw = _NOTHING
    content: msgspec.Raw = _NOTHING


_PARTS = msgspec.json.Decoder(list[Part | _Other])
_TOOLS = msgspec.json.Decoder(list[Tool | _Other])
_MESSAGES = msgspec.json.Decoder(list[_Message | _Other])
SPOKEN_IN = {
    "chat.completions": "messages",
    "messages": "messages",
    "messages.count_tokens": "messages",
    "responses": "input",
}


def read_parts(route: Route, members: Members) -> list[Any] | None:
    """What the conversation is made of; plain text is no part. None when it can't be read.

    The words are not searched for first: with their escapes that takes as long as this.
    """
    name = SPOKEN_IN.get(route.name)
    raw = None if name is None else members.get(name)
    if raw is None:
        return _NO_PARTS
    try:
        if route.grammar is CHAT:
            if _is_plain(raw):
                return _NO_PARTS
        elif _first_of(raw) != _LIST:
            return _NO_PARTS
        return _PARTS.decode(raw)
    except UNREADABLE:
        return None if _first_of(raw) == _LIST else _NO_PARTS  # a chat's that is no list: it is not looked at before


def _is_plain(raw: msgspec.Raw) -> bool:
    """Whether a chat's messages are text and nothing else. Most are, and the text need not be decoded for this."""
    for message in _MESSAGES.decode(raw):
        if type(message) is _Message and (
            message.audio is not _NOTHING
            or message.file_id is not _NOTHING
            or _first_of(message.content) not in _TEXT_OR_NULL
        ):
            return False
    return True


def read_tools(raw: msgspec.Raw) -> list[Any] | None:
    """The declared tools; None when they can't be read."""
    if _first_of(raw) != _LIST:
        return []
    try:
        return _TOOLS.decode(raw)
    except UNREADABLE:
        return None


def every_part(parts: list[Any]) -> Iterator[Part]:
    """These and all inside of them. No recursion: a client decides how deep they go, and how many there are."""
    todo = list(parts)
    while todo:
        part = todo.pop()
        if type(part) is Part:
            yield part
            if part.content is not None:
                todo.append(part.content)
            if part.output is not None:
                todo.append(part.output)
            if part.source is not None:
                todo.append(part.source)
            if part.file is not None:
                todo.append(part.file)
        elif type(part) is list:
            todo += part


def every_tool(tools: list[Any]) -> Iterator[Tool]:
    """These and all inside of them."""
    todo = list(tools)
    while todo:
        tool = todo.pop()
        if type(tool) is Tool:
            yield tool
            if tool.tools is not None:
                todo.append(tool.tools)
            if tool.definition is not None:
                todo.append(tool.definition)
        elif type(tool) is list:
            todo += tool


def read_option(raw: msgspec.Raw, name: str) -> bytes:
    """The raw value of a member of an object: NULL when it has none, UNCLEAR when peers may read different ones."""
    data = bytes(raw)
    if data == NULL:
        return NULL
    options = read_members(data)
    if options is None or not (are_compact(data, options) or find_spans(data, options)):
        return UNCLEAR
    return bytes(options.get(name, NULL))
