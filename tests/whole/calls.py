"""Every SDK call the gateway carries, written once: one function runs sync and async clients, whole and streamed.

A call returns `Seen`: what the application got, in a form that two calls can be compared by.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai

from tests.whole.tokens import Tokens, chat_tokens, message_tokens, response_tokens

QUESTION = "Why is the sky blue? Answer in one sentence, please."
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}


@dataclass
class Seen:
    """What one call gave the application."""

    text: str = ""
    tokens: Tokens | None = None
    model: str = ""
    finish: str | None = None
    request_id: str = ""
    other_request_id: str = ""
    events: list[str] = field(default_factory=list)
    usage_on_events: int = 0  # streamed events on which a `usage` key was present
    usage_chunks: int = 0  # streamed chunks with choices [] and a non-null usage


Call = Callable[..., Awaitable[Seen]]
_made: list[Any] = []


def openai_client(url: str, key: str, kind: str = "sync", **more: Any) -> Any:
    """An openai client whose base URL ends with /v1; it never retries, so that one call is one request."""
    cls = openai.OpenAI if kind == "sync" else openai.AsyncOpenAI
    return _kept(cls(base_url=url, api_key=key, **({"max_retries": 0, "timeout": 20} | more)))


def anthropic_client(url: str, key: str, kind: str = "sync", **more: Any) -> Any:
    """An anthropic client; its base URL is the one of openai without /v1."""
    cls = anthropic.Anthropic if kind == "sync" else anthropic.AsyncAnthropic
    return _kept(cls(base_url=url.removesuffix("/v1"), api_key=key, **({"max_retries": 0, "timeout": 20} | more)))


def _kept(client: Any) -> Any:
    _made.append(client)
    return client


def close_all() -> None:
    """Close every sync client that was made; async ones are closed in their own loop."""
    for client in _made:
        if isinstance(client, (openai.OpenAI, anthropic.Anthropic)):
            client.close()
    _made.clear()


async def close(client: Any) -> None:
    """Close a client of either kind."""
    await done(client.close())


async def done(value: Any) -> Any:
    """The value itself, awaited when an async client gave it."""
    return await value if inspect.isawaitable(value) else value


async def each(stream: Any) -> AsyncIterator[Any]:
    """The events of a stream of either kind."""
    if hasattr(stream, "__aiter__"):
        async for one in stream:
            yield one
    else:
        for one in stream:
            yield one


async def _raw(resource: Any, **arguments: Any) -> tuple[Any, Seen]:
    """Call `create` of a resource and keep the ids from the response's headers."""
    raw = await done(resource.with_raw_response.create(**arguments))
    return await done(raw.parse()), _identified(raw.headers)


def _identified(headers: Any) -> Seen:
    return Seen(request_id=headers.get("x-request-id", ""), other_request_id=headers.get("request-id", ""))


async def chat(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions, whole."""
    asked = {"model": model, "messages": [{"role": "user", "content": QUESTION}]} | more
    reply, seen = await _raw(client.chat.completions, **asked)
    message = reply.choices[0].message
    calls = [f"{call.function.name}({call.function.arguments})" for call in message.tool_calls or []]
    seen.text = (message.content or "") + "".join(calls)
    seen.tokens, seen.model, seen.finish = chat_tokens(reply.usage), reply.model, reply.choices[0].finish_reason
    return seen


async def chat_stream(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions, streamed, the client not asking for usage unless `more` does."""
    asked = {"model": model, "messages": [{"role": "user", "content": QUESTION}], "stream": True} | more
    stream, seen = await _raw(client.chat.completions, **asked)
    async for part in each(stream):
        _chunk(seen, part)
        for choice in part.choices:
            for call in choice.delta.tool_calls or []:
                name = f"{call.function.name}(" if call.function.name else ""
                seen.text += name + (call.function.arguments or "")
            seen.text += choice.delta.content or ""
            seen.finish = choice.finish_reason or seen.finish
    return seen


async def chat_stream_usage(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions, streamed, usage asked for."""
    return await chat_stream(client, model, **({"stream_options": {"include_usage": True}} | more))


async def chat_reasoning(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions with reasoning tokens."""
    return await chat(client, model, reasoning_effort="low", **more)


async def chat_tool(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions with a tool call."""
    return await chat(client, model, tools=[_chat_tool()], tool_choice="required", **more)


async def chat_tool_stream(client: Any, model: str, **more: Any) -> Seen:
    """chat.completions with a tool call, streamed."""
    return await chat_stream(client, model, tools=[_chat_tool()], tool_choice="required", **more)


async def completion(client: Any, model: str, **more: Any) -> Seen:
    """Legacy completions, whole."""
    reply, seen = await _raw(client.completions, model=model, prompt=QUESTION, max_tokens=16, **more)
    seen.text, seen.tokens = reply.choices[0].text, chat_tokens(reply.usage)
    seen.model, seen.finish = reply.model, reply.choices[0].finish_reason
    return seen


async def completion_stream(client: Any, model: str, **more: Any) -> Seen:
    """Legacy completions, streamed."""
    stream, seen = await _raw(client.completions, model=model, prompt=QUESTION, max_tokens=16, stream=True, **more)
    async for part in each(stream):
        _chunk(seen, part)
        for choice in part.choices:
            seen.text += choice.text
            seen.finish = choice.finish_reason or seen.finish
    return seen


async def embedding(client: Any, model: str, **more: Any) -> Seen:
    """Embeddings as the SDK asks for them by default (base64 on the wire)."""
    reply, seen = await _raw(client.embeddings, model=model, input=[QUESTION, "And the sea?"], **more)
    seen.text = repr([item.embedding[:8] for item in reply.data])
    seen.tokens, seen.model = chat_tokens(reply.usage), reply.model
    return seen


async def embedding_floats(client: Any, model: str, **more: Any) -> Seen:
    """Embeddings as floats."""
    reply, seen = await _raw(client.embeddings, model=model, input=QUESTION, encoding_format="float", **more)
    seen.text = repr([item.embedding[:8] for item in reply.data])
    seen.tokens, seen.model = chat_tokens(reply.usage), reply.model
    return seen


async def response(client: Any, model: str, **more: Any) -> Seen:
    """Responses, whole."""
    reply, seen = await _raw(client.responses, model=model, input=QUESTION, **more)
    calls = [f"{item.name}({item.arguments})" for item in reply.output if item.type == "function_call"]
    seen.text = reply.output_text + "".join(calls)
    seen.tokens, seen.model, seen.finish = response_tokens(reply.usage), reply.model, reply.status
    return seen


async def response_stream(client: Any, model: str, **more: Any) -> Seen:
    """Responses, streamed."""
    stream, seen = await _raw(client.responses, model=model, input=QUESTION, stream=True, **more)
    async for part in each(stream):
        seen.events.append(part.type)
        if part.type == "response.output_text.delta":
            seen.text += part.delta
        elif part.type in ("response.completed", "response.incomplete"):
            seen.tokens = response_tokens(part.response.usage)
            seen.model, seen.finish = part.response.model, part.response.status
    return seen


async def moderation(client: Any, model: str, **more: Any) -> Seen:
    """Moderations."""
    reply, seen = await _raw(client.moderations, model=model, input=QUESTION, **more)
    seen.text, seen.model = repr([result.flagged for result in reply.results]), reply.model
    return seen


async def message(client: Any, model: str, **more: Any) -> Seen:
    """messages, whole."""
    reply, seen = await _raw(client.messages, **(_message(model) | more))
    for block in reply.content:
        seen.text += _block_text(block)
    seen.tokens, seen.model, seen.finish = message_tokens(reply.usage), reply.model, reply.stop_reason
    return seen


async def message_stream(client: Any, model: str, **more: Any) -> Seen:
    """messages, streamed."""
    stream, seen = await _raw(client.messages, **(_message(model) | {"stream": True} | more))
    usage: dict[str, Any] = {}
    async for part in each(stream):
        seen.events.append(part.type)
        if part.type == "message_start":
            usage |= part.message.usage.model_dump(exclude_none=True)
            seen.model = part.message.model
        elif part.type == "content_block_start" and part.content_block.type == "tool_use":
            seen.text += f"{part.content_block.name}("
        elif part.type == "content_block_delta":
            seen.text += _delta_text(part.delta)
        elif part.type == "message_delta":
            usage |= part.usage.model_dump(exclude_none=True)
            seen.finish = part.delta.stop_reason
    seen.tokens = message_tokens(usage)
    return seen


async def message_thinking(client: Any, model: str, **more: Any) -> Seen:
    """messages with thinking."""
    return await message(client, model, thinking={"type": "adaptive"}, **more)


async def message_tool(client: Any, model: str, **more: Any) -> Seen:
    """messages with a tool call."""
    return await message(client, model, tools=[_message_tool()], tool_choice={"type": "any"}, **more)


async def message_tool_stream(client: Any, model: str, **more: Any) -> Seen:
    """messages with a tool call, streamed."""
    return await message_stream(client, model, tools=[_message_tool()], tool_choice={"type": "any"}, **more)


async def message_cached(client: Any, model: str, **more: Any) -> Seen:
    """messages with a long system prompt that is cached."""
    system = [{"type": "text", "text": "be brief. " * 1000, "cache_control": {"type": "ephemeral"}}]
    return await message(client, model, system=system, **more)


async def count_tokens(client: Any, model: str) -> Seen:
    """messages.count_tokens."""
    asked = {"model": model, "messages": [{"role": "user", "content": QUESTION}]}
    raw = await done(client.messages.with_raw_response.count_tokens(**asked))
    seen = _identified(raw.headers)
    seen.text = str((await done(raw.parse())).input_tokens)
    return seen


OPENAI_CALLS: tuple[Call, ...] = (
    chat,
    chat_stream,
    chat_stream_usage,
    chat_reasoning,
    chat_tool,
    chat_tool_stream,
    completion,
    completion_stream,
    embedding,
    embedding_floats,
    response,
    response_stream,
    moderation,
)
ANTHROPIC_CALLS: tuple[Call, ...] = (
    message,
    message_stream,
    message_thinking,
    message_tool,
    message_tool_stream,
    message_cached,
    count_tokens,
)


def name_of(call: Any) -> str:
    """The call's name, for test ids; partials too."""
    return str(getattr(call, "func", call).__name__)


def _chunk(seen: Seen, part: Any) -> None:
    seen.model = part.model
    seen.usage_on_events += "usage" in part.model_fields_set
    if part.usage is not None:
        seen.tokens = chat_tokens(part.usage)
        seen.usage_chunks += not part.choices


def _message(model: str) -> dict[str, Any]:
    return {"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": QUESTION}]}


def _block_text(block: Any) -> str:
    if block.type == "tool_use":
        return f"{block.name}({block.input})"
    return getattr(block, "text", "") or getattr(block, "thinking", "")


def _delta_text(delta: Any) -> str:
    return next((text for name in ("text", "thinking", "partial_json") if (text := getattr(delta, name, ""))), "")


def _chat_tool() -> dict[str, Any]:
    return {"type": "function", "function": {"name": "get_weather", "description": "Weather", "parameters": WEATHER}}


def _message_tool() -> dict[str, Any]:
    return {"name": "get_weather", "description": "Weather", "input_schema": WEATHER}
