"""The lines people paste to point a client at the gateway. Text only; each form was tried with the client it names."""

from typing import TYPE_CHECKING, Final

from luntrex_proxy.core.listening import HostPort, parse_listen

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_WILDCARDS: Final = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104 -- replaced, not bound
_LINES: Final = """\
# openai SDKs, LangChain, litellm
export OPENAI_BASE_URL={url}/v1 OPENAI_API_BASE={url}/v1 OPENAI_API_KEY={key}

# anthropic SDKs
export ANTHROPIC_BASE_URL={url} ANTHROPIC_API_KEY={key}

# LangChain, in code
ChatOpenAI(base_url="{url}/v1", api_key="{key}", model="MODEL", stream_usage=True)
ChatAnthropic(base_url="{url}", api_key="{key}", model="MODEL")

# Claude Code
ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN={key} claude

# Codex
LUNTREX_API_KEY={key} codex -c model_provider=luntrex \\
  -c 'model_providers.luntrex={{name="luntrex",base_url="{url}/v1",env_key="LUNTREX_API_KEY",wire_api="responses"}}'

# curl
curl -N {url}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
  -d '{{"model":"MODEL","stream":true,"messages":[{{"role":"user","content":"Hello"}}]}}'
"""


def environment_lines(base_url: str, key: str, model: str = "MODEL") -> str:
    """Lines for the known clients. `base_url` is the gateway's, with or without /v1 at its end."""
    url = base_url.rstrip("/").removesuffix("/v1")
    return _LINES.format(url=url, key=key).replace("MODEL", model).rstrip()


def gateway_url(settings: "Settings") -> str:
    """Where clients reach the gateway: its public URL, else its first TCP listener."""
    if settings.gateway.public_url:
        return settings.gateway.public_url
    for text in settings.gateway.listen:
        place = parse_listen(text)
        if isinstance(place, HostPort) and place.port:
            plain = f"[{place.host}]" if ":" in place.host else place.host
            return f"http://{_WILDCARDS.get(place.host, plain)}:{place.port}"
    return "http://GATEWAY"
