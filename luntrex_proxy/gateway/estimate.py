"""What a request may come to, before it is sent: from its size and what it names, never from reading its text."""

import re

import msgspec

from luntrex_proxy.core.wire.fields import Fields
from luntrex_proxy.core.wire.members import UNREADABLE
from luntrex_proxy.core.wire.usage import COUNT_LIMIT
from luntrex_proxy.gateway.meter import BYTES_PER_TOKEN, NO_OUTPUT, UNBILLED
from luntrex_proxy.gateway.record import Draft

_OUTPUT_MEMBERS = ("max_completion_tokens", "max_output_tokens", "max_tokens")
_UNSTATED_OUTPUT = 512  # tokens, of a request that names no maximum: what answers usually have
_UNANSWERED = UNBILLED | NO_OUTPUT
_SAYING = frozenset((*_OUTPUT_MEMBERS, "n", "best_of", "prompt"))
_COUNT = msgspec.json.Decoder(int, strict=False)  # many upstreams take 1e3 and "1000" for numbers
_LOOSE_COUNT = msgspec.json.Decoder(float | str)  # and some take 1e18 and " 1000 "
_IS_LIST = re.compile(rb"\[[ \t\n\r]*([\"\[])")


def estimate(route: str, fields: Fields | None, request_bytes: int) -> tuple[int, int]:
    """The tokens of input and output: a quarter of its bytes, and the longest answer it allows."""
    size = -(-request_bytes // BYTES_PER_TOKEN)
    if fields is None or route in _UNANSWERED:
        return (size if fields is not None and route in NO_OUTPUT else 0), 0
    members = fields.members
    if _SAYING.isdisjoint(members):  # most requests: nothing to decode
        return size, _UNSTATED_OUTPUT
    longest, answers = 0, 1
    for name in _OUTPUT_MEMBERS:
        if name in members:
            longest = max(longest, _count(members[name]))
    if "n" in members:
        answers = max(1, _count(members["n"]))
    if route == "completions":
        if "best_of" in members:
            answers = max(answers, _count(members["best_of"]))
        answers *= _prompts(fields)
    # No model says more; and what others are told of a limit has to be a number that they can add to theirs.
    return size, min((longest or _UNSTATED_OUTPUT) * answers, COUNT_LIMIT)


def note_longest(draft: Draft, fields: Fields) -> None:
    """Remember how long an answer may be that is not here yet, for the meter."""
    draft.longest = estimate(draft.route, fields, 0)[1]


def _prompts(fields: Fields) -> int:
    """How many prompts there are, each of which is answered: by the quotes or brackets around them."""
    raw = fields.members.get("prompt", b"")
    first = _IS_LIST.match(raw)
    if first is None:
        return 1
    prompt = bytes(raw)
    if first[1] == b"[":
        return prompt.count(b"[") - 1
    # A backslash that is escaped itself escapes no quote.
    return (prompt.count(b'"') - prompt.replace(b"\\\\", b"").count(b'\\"')) // 2


def _count(raw: msgspec.Raw) -> int:
    """A member that is a positive number; what is none is the upstream's to refuse."""
    try:
        return _COUNT.decode(raw)
    except UNREADABLE:
        pass
    try:
        count = float(_LOOSE_COUNT.decode(raw))
    except (*UNREADABLE, ValueError):
        return 0
    return int(min(count, COUNT_LIMIT)) if count > 0 else 0
