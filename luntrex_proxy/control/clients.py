"""The lines people paste to point a client at the gateway. Text only; each form was tried with the client it names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Entry
from luntrex_proxy.core.listening import HostPort, parse_listen
from luntrex_proxy.settings.model import Settings

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 -- replaced, not bound
WELL_KNOWN: Final = {Dialect.OPENAI: "gpt-4o-mini", Dialect.ANTHROPIC: "claude-haiku-4-5"}
_CURL_OPENAI: Final = """\
curl -N {url}/v1/chat/completions \\
  -H 'Authorization: Bearer {key}' \\
  -H 'Content-Type: application/json' \\
  -d '{{"model":"{model}","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'"""
_CURL_ANTHROPIC: Final = """\
curl -N {url}/v1/messages \\
  -H 'x-api-key: {key}' \\
  -H 'anthropic-version: 2023-06-01' \\
  -H 'Content-Type: application/json' \\
  -d '{{"model":"{model}","stream":true,"max_tokens":100,"messages":[{{"role":"user","content":"Hello"}}]}}'"""
_OPENAI_PYTHON: Final = """\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
stream = client.chat.completions.create(
    model="{model}", messages=[{{"role": "user", "content": "Hello"}}], stream=True
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="", flush=True)"""
_ANTHROPIC_PYTHON: Final = """\
from anthropic import Anthropic

client = Anthropic(base_url="{url}", api_key="{key}")
with client.messages.stream(
    model="{model}", max_tokens=100, messages=[{{"role": "user", "content": "Hello"}}]
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)"""
_CODEX: Final = """\
LUNTREX_API_KEY={key} codex -c model_provider=luntrex \\
  -c 'model_providers.luntrex={{name="luntrex",base_url="{url}/v1",env_key="LUNTREX_API_KEY",wire_api="responses"}}'"""


@dataclass(frozen=True, slots=True)
class _Client:
    """A client, and the form of its lines."""

    name: str
    dialect: Dialect
    form: str
    is_on_pages: bool = True  # else on the terminal
    is_on_terminal: bool = True


_CLIENTS: Final = (
    _Client("curl", Dialect.OPENAI, _CURL_OPENAI, is_on_terminal=False),
    _Client("curl, Messages API", Dialect.ANTHROPIC, _CURL_ANTHROPIC, is_on_terminal=False),
    _Client("openai for Python", Dialect.OPENAI, _OPENAI_PYTHON, is_on_terminal=False),
    _Client("anthropic for Python", Dialect.ANTHROPIC, _ANTHROPIC_PYTHON, is_on_terminal=False),
    _Client(
        "openai SDKs, LangChain, litellm",
        Dialect.OPENAI,
        "export OPENAI_BASE_URL={url}/v1 OPENAI_API_BASE={url}/v1 OPENAI_API_KEY={key}",
    ),
    _Client("anthropic SDKs", Dialect.ANTHROPIC, "export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={key}"),
    _Client(
        "LangChain, in code",
        Dialect.OPENAI,
        'ChatOpenAI(base_url="{url}/v1", api_key="{key}", model="{model}", stream_usage=True)\n'
        'ChatAnthropic(base_url="{url}", api_key="{key}", model="{model}")',
        is_on_pages=False,
    ),
    _Client("Claude Code", Dialect.ANTHROPIC, "ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} claude"),
    _Client("Codex", Dialect.OPENAI, _CODEX),
    _Client("curl", Dialect.OPENAI, _CURL_OPENAI, is_on_pages=False),
)


@dataclass(frozen=True, slots=True)
class Lines:
    """What to paste for a client."""

    client: str
    text: str


def environment_lines(base_url: str, key: str, model: str = "MODEL") -> str:
    """Lines for the known clients, as one text. `base_url` is the gateway's, with or without /v1 at its end."""
    found = (each for each in _CLIENTS if each.is_on_terminal)
    return "\n\n".join(f"# {each.name}\n{_fill(each, base_url, key, model)}" for each in found)


def lines_for(base_url: str, key: str, entries: Iterable[Entry]) -> Sequence[Lines]:
    """Lines for each client whose dialect one of these models speaks, with the name of such a model."""
    models = example_models(entries)
    return [
        Lines(each.name, _fill(each, base_url, key, models[each.dialect]))
        for each in _CLIENTS
        if each.is_on_pages and each.dialect in models
    ]


def example_models(entries: Iterable[Entry]) -> dict[Dialect, str]:
    """A model to try, by dialect: a configured name, else a well-known one of a wildcard's provider."""
    found: dict[Dialect, str] = {}
    for entry in sorted(entries, key=lambda each: "*" in each.name):  # exact names first
        for target in entry.targets:
            known = WELL_KNOWN[target.dialect] if entry.name == "*" else "MODEL"
            found.setdefault(target.dialect, entry.name.replace("*", known))
    return found


def gateway_url(settings: Settings) -> str:
    """Where clients reach the gateway: its public URL, else its first TCP listener."""
    if settings.gateway.public_url:
        return settings.gateway.public_url
    for text in settings.gateway.listen:
        place = parse_listen(text)
        if isinstance(place, HostPort) and place.port:
            plain = f"[{place.host}]" if ":" in place.host else place.host
            return f"http://{_WILDCARDS.get(place.host, plain)}:{place.port}"
    return "http://GATEWAY"


def _fill(client: _Client, base_url: str, key: str, model: str) -> str:
    url = base_url.rstrip("/").removesuffix("/v1")
    return client.form.format(url=url, key=key, model=model)
