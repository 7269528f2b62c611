"""Token counts from an upstream's usage object, by the rules of wire formats 1.3, 1.4 and 2.2.

Absent and null counts are 0, an explicit zero stays zero. An implausible count of input or output is no zero: it makes
the whole object useless, so that the request is estimated. In the details, which only divide, it is taken as absent.
"""

from typing import Annotated, Any

import msgspec
from msgspec.structs import asdict

from luntrex_proxy.core.call import MESSAGES, RESPONSES, Grammar, Route
from luntrex_proxy.core.outcome import SERVICES, ServedTokens, Tokens

COUNT_LIMIT = 10**9  # above it a number is a mistake: no model has such a request, and sums must fit 64 bits

# Routes whose upstream works without billable tokens: count_tokens' `input_tokens` is the answer itself.
_UNBILLED = frozenset({"moderations", "messages.count_tokens", "models"})


# Names of the input's count, the output's, and what divides each of them.
_Names = tuple[str, str, str, str]
_OF_CHAT: _Names = ("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")
_OF_RESPONSES: _Names = ("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
_MESSAGES_COUNTS = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_MESSAGES_WRITES = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
_MESSAGES_NAMES = frozenset((*_MESSAGES_COUNTS, "cache_creation", "output_tokens_details", "service_tier", "speed"))


class Details(msgspec.Struct, gc=False):
    """What divides a count."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None
    reasoning_tokens: int | None = None


_Count = Annotated[int, msgspec.Meta(ge=0, le=COUNT_LIMIT)]


class ChatUsage(msgspec.Struct, gc=False):
    """The usage object of chats, completions and embeddings as nearly all are; others are read by `read_tokens`."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None

    def tokens(self) -> Tokens | None:
        """The counts, as `read_tokens` reads them."""
        all_input, all_output = self.prompt_tokens, self.completion_tokens
        if all_input is None or all_output is None:
            if all_input is all_output:
                return None
            all_input, all_output = all_input or 0, all_output or 0
        into, out = self.prompt_tokens_details, self.completion_tokens_details
        if into is not None and (into.cached_tokens or into.cache_write_tokens or into.audio_tokens):
            return _divided(all_input, into, all_output, out or _UNDIVIDED)
        if out is not None and (out.reasoning_tokens or out.audio_tokens):
            return _divided(all_input, into or _UNDIVIDED, all_output, out)
        return Tokens(all_input, 0, 0, 0, 0, all_output)


_UNDIVIDED = Details()


def _divided(all_input: int, into: Details, all_output: int, out: Details) -> Tokens:
    cached = _at_most(all_input, into.cached_tokens)
    return Tokens(
        all_input,
        cached,
        _at_most(all_input - cached, into.cache_write_tokens),
        0,
        _at_most(all_input, into.audio_tokens),
        all_output,
        _at_most(all_output, out.reasoning_tokens),
        _at_most(all_output, out.audio_tokens),
    )


def at_service(tokens: Tokens | None, said: Any) -> Tokens | None:
    """The counts with the service tier that an answer states, if it has a price of its own. Other words are dropped."""
    if tokens is None or type(said) is not str or said not in SERVICES:
        return tokens
    return ServedTokens(**asdict(tokens), service=said)


def _at_most(whole: int, part: int | None) -> int:
    return min(part, whole) if part is not None and part > 0 else 0


def is_billed(route: Route) -> bool:
    """Whether answers of this route have token usage at all."""
    return route.name not in _UNBILLED


def read_tokens(grammar: Grammar, usage: Any) -> Tokens | None:
    """The counts of a decoded usage object; None when it says neither input nor output, or says nonsense."""
    if type(usage) is not dict:
        return None
    if grammar is MESSAGES:
        return _read_messages(usage)
    return _read_openai(usage, _OF_RESPONSES if grammar is RESPONSES else _OF_CHAT)


def merge_usage(known: dict[str, Any], update: Any) -> dict[str, Any]:
    """Anthropic's cumulative usage: what the update states overwrites, nonsense included; what it leaves out stays."""
    if type(update) is not dict:
        return known
    return {**known, **{name: update[name] for name in _MESSAGES_NAMES & update.keys() if update[name] is not None}}


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= COUNT_LIMIT


def _are_plausible(counts: dict[str, Any], names: tuple[str, ...]) -> bool:
    return all(counts.get(name) is None or _is_count(counts[name]) for name in names)


def _count(counts: dict[str, Any], name: str) -> int:
    return counts.get(name) or 0


def _part(counts: dict[str, Any], name: str) -> dict[str, Any]:
    value = counts.get(name)
    return value if type(value) is dict else {}


def _subset(details: dict[str, Any], name: str, whole: int) -> int:
    value = details.get(name)
    return min(value, whole) if type(value) is int and value > 0 else 0


def _read_openai(usage: dict[str, Any], names: _Names) -> Tokens | None:
    # For every request: plain steps, no loops.
    input_name, output_name, into_name, out_name = names
    all_input = usage.get(input_name)
    all_output = usage.get(output_name)
    if all_input is None:
        if all_output is None:
            return None
        all_input = 0
    elif all_output is None:
        all_output = 0
    if type(all_input) is not int or type(all_output) is not int:
        return None
    if not (0 <= all_input <= COUNT_LIMIT and 0 <= all_output <= COUNT_LIMIT):
        return None
    into = usage.get(into_name)
    out = usage.get(out_name)
    cached = written = input_audio = reasoning = output_audio = 0
    if type(into) is dict and any(into.values()):
        cached = _subset(into, "cached_tokens", all_input)
        written = _subset(into, "cache_write_tokens", all_input - cached)
        input_audio = _subset(into, "audio_tokens", all_input)
    if type(out) is dict and any(out.values()):
        reasoning = _subset(out, "reasoning_tokens", all_output)
        output_audio = _subset(out, "audio_tokens", all_output)
    return Tokens(all_input, cached, written, 0, input_audio, all_output, reasoning, output_audio)


def _read_messages(usage: dict[str, Any]) -> Tokens | None:
    split = _part(usage, "cache_creation")
    if not _are_plausible(usage, _MESSAGES_COUNTS) or not _are_plausible(split, _MESSAGES_WRITES):
        return None
    if usage.get("input_tokens") is None and usage.get("output_tokens") is None:
        return None
    written_1h = _count(split, "ephemeral_1h_input_tokens")
    written = written_1h + _count(split, "ephemeral_5m_input_tokens")
    if usage.get("cache_creation_input_tokens") is not None:  # the total is authoritative, the split only divides it
        written = usage["cache_creation_input_tokens"]
        written_1h = min(written_1h, written)
    cached = _count(usage, "cache_read_input_tokens")
    all_output = _count(usage, "output_tokens")
    counts = Tokens(
        input=_count(usage, "input_tokens") + written + cached,
        cached_input=cached,
        cache_write_5m=written - written_1h,
        cache_write_1h=written_1h,
        output=all_output,
        reasoning=_subset(_part(usage, "output_tokens_details"), "thinking_tokens", all_output),
    )
    speed = usage.get("speed")
    return at_service(counts, speed if speed == "fast" else usage.get("service_tier"))
