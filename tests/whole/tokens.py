"""Token counts as the ledger keeps them, out of each dialect's `usage`; written apart from the product on purpose."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Tokens:
    """All input, all output, and the parts of them that have names."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0


def chat_tokens(usage: Any) -> Tokens | None:
    """Of chat completions, completions and embeddings."""
    if usage is None:
        return None
    given = _plain(usage)
    prompt, completion = given.get("prompt_tokens_details") or {}, given.get("completion_tokens_details") or {}
    return Tokens(
        given["prompt_tokens"],
        given.get("completion_tokens") or 0,
        prompt.get("cached_tokens") or 0,
        prompt.get("cache_write_tokens") or 0,
        completion.get("reasoning_tokens") or 0,
    )


def response_tokens(usage: Any) -> Tokens | None:
    """Of the Responses API."""
    if usage is None:
        return None
    given = _plain(usage)
    read, wrote = given.get("input_tokens_details") or {}, given.get("output_tokens_details") or {}
    return Tokens(
        given["input_tokens"],
        given["output_tokens"],
        read.get("cached_tokens") or 0,
        read.get("cache_write_tokens") or 0,
        wrote.get("reasoning_tokens") or 0,
    )


def message_tokens(usage: Any) -> Tokens:
    """Of messages, where `input_tokens` excludes the cache."""
    given = _plain(usage)
    cached, written = given.get("cache_read_input_tokens") or 0, given.get("cache_creation_input_tokens") or 0
    return Tokens(
        given["input_tokens"] + cached + written,
        given["output_tokens"],
        cached,
        written,
        (given.get("output_tokens_details") or {}).get("thinking_tokens") or 0,
    )


def _plain(usage: Any) -> dict[str, Any]:
    return usage if isinstance(usage, dict) else usage.model_dump()
