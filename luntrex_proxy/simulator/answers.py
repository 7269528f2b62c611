"""What the simulated model says and counts: the request's head fields in, one `Answer` out; both dialects render it.

Counts come from the size of what was asked (`messages`, `input`, `tools`, ...), never from the whole body: a proxy may
splice `model`, `store` or `stream_options` and the tokens must stay the same.
"""

from dataclasses import dataclass

import msgspec
import orjson

BYTES_PER_TOKEN = 4
LONG_PROMPT_TOKENS = 1024  # from here on half of the prompt counts as read from the cache, as OpenAI does
CACHE_STEP_TOKENS = 128
REASONING_TOKENS = {"minimal": 16, "low": 64, "medium": 128, "high": 256, "xhigh": 512, "max": 1024}
DEFAULT_EFFORT = "medium"

_TEXTS = (
    "This is the simulated model of luntrex-proxy. It has read nothing of what you sent, and it keeps nothing of it.",
    "A reverse proxy sits between your application and the provider: one base URL, your own keys, exact usage.",
    "Ten short words came a few milliseconds apart, each in its own event, the way a real model would send them.",
    "Größe, naïveté, 東京 and 🙂 are here so that a client that splits characters in two is noticed at once.",
)
_THOUGHT = "The answer was written long ago, so there is little to think about."


class Function(msgspec.Struct):
    """A function a chat tool describes."""

    name: str = ""
    parameters: dict[str, object] | None = None


class Tool(msgspec.Struct):
    """A tool in any of the three forms: chat nests `function`, Responses is flat, Anthropic says `input_schema`."""

    name: str = ""
    function: Function | None = None
    parameters: dict[str, object] | None = None
    input_schema: dict[str, object] | None = None

    def called(self) -> str:
        """The name to call the tool by."""
        return self.function.name if self.function else self.name

    def schema(self) -> dict[str, object]:
        """The JSON schema of the tool's arguments."""
        return (self.function.parameters if self.function else self.parameters or self.input_schema) or {}


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Effort(msgspec.Struct):
    """OpenAI's `reasoning` and Anthropic's `output_config`."""

    effort: str | None = None


class Thinking(msgspec.Struct):
    """Anthropic's `thinking`."""

    type: str = "disabled"


class Ask(msgspec.Struct):
    """The fields of a request the simulator looks at; what was said stays undecoded and only its size is used."""

    model: str = ""
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    tool_choice: msgspec.Raw = msgspec.Raw()
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    reasoning_effort: str | None = None
    reasoning: Effort | None = None
    output_config: Effort | None = None
    thinking: Thinking | None = None
    encoding_format: str | None = None
    dimensions: int | None = None

    def said(self) -> tuple[msgspec.Raw, ...]:
        """The undecoded fields a model would read."""
        return (self.messages, self.prompt, self.input, self.system, self.instructions, self.tools)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer before a dialect renders it. `cached` and `cache_write` are parts of `input_tokens`."""

    thought: list[str]
    text: list[str]
    tool: str
    arguments: list[str]
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cut_short: bool

    @property
    def output_tokens(self) -> int:
        """All output, reasoning included."""
        return self.reasoning_tokens + len(self.text) + len(self.arguments)


def answer(ask: Ask) -> Answer:
    """The answer to a request: the same request gets the same text and the same counts."""
    total = count_input(ask)
    tool = _chosen_tool(ask)
    pieces = _pieces(orjson.dumps(_arguments(tool.schema())).decode()) if tool else _pieces(_TEXTS[total % len(_TEXTS)])
    limit = _limit(ask)
    kept = pieces[:limit]
    reasoning = _reasoning(ask)
    written = total // 4 if any(b'"cache_control"' in bytes(raw) for raw in ask.said()) else 0
    return Answer(
        thought=_pieces(_THOUGHT) if reasoning else [],
        text=[] if tool else kept,
        tool=tool.called() if tool else "",
        arguments=kept if tool else [],
        input_tokens=total,
        cached_tokens=total // 2 // CACHE_STEP_TOKENS * CACHE_STEP_TOKENS if total >= LONG_PROMPT_TOKENS else 0,
        cache_write_tokens=written,
        reasoning_tokens=reasoning,
        cut_short=len(kept) < len(pieces),
    )


def count_input(ask: Ask) -> int:
    """Input tokens by the size of what was asked."""
    return 1 + sum(len(bytes(raw)) for raw in ask.said()) // BYTES_PER_TOKEN


def _pieces(text: str) -> list[str]:
    """Words with the space before them, as tokens mostly are."""
    first, *rest = text.split(" ")
    return [first, *(" " + word for word in rest)]


def _limit(ask: Ask) -> int | None:
    for limit in (ask.max_completion_tokens, ask.max_output_tokens, ask.max_tokens):
        if limit is not None:
            return max(limit, 0)
    return None


def _reasoning(ask: Ask) -> int:
    effort = ask.reasoning_effort or (ask.reasoning.effort if ask.reasoning else None)
    if ask.thinking and ask.thinking.type in ("enabled", "adaptive"):
        effort = (ask.output_config.effort if ask.output_config else None) or DEFAULT_EFFORT
    return REASONING_TOKENS.get(effort, 0) if effort else 0


def _chosen_tool(ask: Ask) -> Tool | None:
    """The tool to call when the request insists on one, else None."""
    if not bytes(ask.tools) or not bytes(ask.tool_choice):
        return None
    tools = msgspec.json.decode(ask.tools, type=list[Tool] | None) or []
    choice = msgspec.json.decode(ask.tool_choice, type=str | Choice | None)
    if isinstance(choice, str):
        return tools[0] if tools and choice == "required" else None
    if choice is None or choice.type not in ("any", "tool", "function"):
        return None
    wanted = choice.function.name if choice.function else choice.name
    return next((tool for tool in tools if wanted in ("", tool.called())), None)


class Choice(msgspec.Struct):
    """`tool_choice` when it is an object."""

    type: str = ""
    name: str = ""
    function: Function | None = None


def _arguments(schema: dict[str, object]) -> dict[str, object]:
    """Arguments that fit a simple schema, so that a tool runner which validates them can go on."""
    samples: dict[object, object] = {"integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return {}
    return {
        name: samples.get(about.get("type"), "an example") if isinstance(about, dict) else "an example"
        for name, about in properties.items()
    }
