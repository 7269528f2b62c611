"""The calls llama.cpp answers, asked so that the same question gets the same answer and the same counts."""

import functools

from tests.whole import calls

STEADY = {"temperature": 0, "extra_body": {"cache_prompt": False}}  # greedy; no count depends on what came before
SHORT = STEADY | {"max_tokens": 12}  # random weights never say they are done

OPENAI_CALLS: tuple[calls.Call, ...] = (
    functools.partial(calls.chat, **SHORT),
    functools.partial(calls.chat_stream, **SHORT),
    functools.partial(calls.chat_stream_usage, **SHORT),
    functools.partial(calls.completion, **STEADY),
    functools.partial(calls.completion_stream, **STEADY),
    calls.embedding,
    calls.embedding_floats,
    functools.partial(calls.response, **STEADY, max_output_tokens=12),
    functools.partial(calls.response_stream, **STEADY, max_output_tokens=12),
)
ANTHROPIC_CALLS: tuple[calls.Call, ...] = (
    # The SDK leaves `temperature` out of the newest API version, hence extra_body.
    functools.partial(calls.message, max_tokens=12, extra_body={"temperature": 0, "cache_prompt": False}),
    functools.partial(calls.message_stream, max_tokens=12, extra_body={"temperature": 0, "cache_prompt": False}),
    calls.count_tokens,
)
