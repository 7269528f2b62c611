"""The real llama.cpp server, asked directly: what `tests/whole/test_sdk_llama.py` compares the gateway with."""

import dataclasses

import pytest

from tests.llama import steady
from tests.whole import calls
from tests.whole.tokens import Tokens


def uncached(tokens: Tokens | None) -> Tokens | None:
    """The counts without what the server had already."""
    return tokens and dataclasses.replace(tokens, cached=0)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("call", steady.OPENAI_CALLS, ids=calls.name_of)
async def test_openai_sdk(llama_url: str, call: calls.Call, kind: str) -> None:
    """llama.cpp answers each OpenAI call it has, twice the same."""
    client = calls.openai_client(llama_url, "none", kind)
    first, second = await call(client, "tiny"), await call(client, "tiny")
    await calls.close(client)
    assert first.text
    assert (first.text, first.tokens, first.finish) == (second.text, second.tokens, second.finish)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("call", steady.ANTHROPIC_CALLS, ids=calls.name_of)
async def test_anthropic_sdk(llama_url: str, call: calls.Call, kind: str) -> None:
    """llama.cpp answers each Anthropic call it has, twice the same, but for what it had in its cache from others."""
    client = calls.anthropic_client(llama_url, "none", kind)
    first, second = await call(client, "tiny"), await call(client, "tiny")
    await calls.close(client)
    assert first.text
    assert (first.text, first.finish) == (second.text, second.finish)
    assert uncached(first.tokens) == uncached(second.tokens)
