"""The members of a JSON object as raw bytes, and where they stand: no value becomes a Python object."""

import re

import msgspec

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # all that msgspec raises on bad JSON

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_encode = msgspec.json.Encoder().encode
# What most requests are made of, so that they can be told by their names alone. It decides about speed, nothing else.
_USUAL_NAMES = frozenset((
    "model", "messages", "stream", "stream_options", "include_usage", "max_tokens", "max_completion_tokens", "seed",
    "temperature", "top_p", "top_k", "n", "stop", "stop_sequences", "user", "tools", "tool_choice", "response_format",
    "metadata", "system", "thinking", "input", "instructions", "reasoning", "reasoning_effort", "max_output_tokens",
    "parallel_tool_calls", "presence_penalty", "frequency_penalty", "store", "dimensions", "encoding_format", "prompt",
    "service_tier", "safety_identifier", "prompt_cache_key", "logprobs", "top_logprobs", "logit_bias", "text",
))  # fmt: skip
_WRITTEN_BYTES = 65536  # of an object that is written anew to compare it: of a larger one the lengths are added up
# A key that contains an escape never matches: two spellings of one key must not pass for two keys.
_KEY = re.compile(rb'[ \t\n\r]*[{,][ \t\n\r]*"([^"\\]*)"[ \t\n\r]*:[ \t\n\r]*')
_END = re.compile(rb"[ \t\n\r{]*\}[ \t\n\r]*\Z")

Members = dict[str, msgspec.Raw]
Span = tuple[int, int, int]  # where the member begins (at its comma or brace), where its value begins, where it ends


def read_members(data: bytes | msgspec.Raw) -> Members | None:
    """Name -> raw value of a JSON object; None when it is not one. Of a repeated key only the last value is here."""
    try:
        return _MEMBERS.decode(data)
    except UNREADABLE:
        return None


def are_compact(data: bytes, members: Members) -> bool:
    """Whether `data` is nothing but these members, without white space: proof that no key is repeated or escaped.

    A member takes at least its key, its value, two quotes, a colon and a comma or brace. When the lengths add up to
    the whole, there is no room for another one. False proves nothing.
    """
    # Written again it is the same bytes, and no name of these needs an escape: the quickest proof for small ones.
    if len(data) <= _WRITTEN_BYTES and _USUAL_NAMES.issuperset(members) and _encode(members) == data:
        return True
    return 1 + sum(map(len, members)) + sum(map(len, members.values())) + 4 * len(members) == len(data)


def find_spans(data: bytes, members: Members) -> dict[str, Span] | None:
    """Where each member stands; None when a key is repeated or written with an escape.

    Walks from member to member. `members` keeps the order of first appearance, so each step knows which key must come,
    and a value that is not the one in `members` belongs to a repeated key.
    """
    spans: dict[str, Span] = {}
    end = 0
    for key, value in members.items():
        token = _KEY.match(data, end)
        if token is None or token[1] != key.encode() or not data.startswith(value, token.end()):
            return None
        begin = end
        end = token.end() + len(value)
        spans[key] = (begin, token.end(), end)
    return spans if _END.match(data, end) else None
