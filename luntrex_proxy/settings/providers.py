"""Provider keys in the environment as upstreams and models, for when there is no configuration file.

Their privacy attributes follow from the base URL (attributes.py): another one is somebody else's server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.section import Loc


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider: the variable with its key, and the upstream that makes. Its models have its name as prefix."""

    name: str
    key_variable: str
    base_url: str
    dialect: Dialect = Dialect.OPENAI
    url_variable: str = ""
    prefix: bool = True
    inject_usage: bool = True


PROVIDERS = (
    Provider(
        "openai",
        "OPENAI_API_KEY",
        "https://api.openai.com/v1",
        url_variable="OPENAI_BASE_URL",
        prefix=False,
    ),
    Provider(
        "anthropic",
        "ANTHROPIC_API_KEY",
        "https://api.anthropic.com",
        Dialect.ANTHROPIC,
        url_variable="ANTHROPIC_BASE_URL",
        prefix=False,
    ),
    Provider("openrouter", "OPENROUTER_API_KEY", "https://openrouter.ai/api/v1"),
    Provider("groq", "GROQ_API_KEY", "https://api.groq.com/openai/v1"),
    # Refuses stream_options with 422 and always sends usage (openai-agents-python issue 442).
    Provider("mistral", "MISTRAL_API_KEY", "https://api.mistral.ai/v1", inject_usage=False),
    Provider("deepseek", "DEEPSEEK_API_KEY", "https://api.deepseek.com/v1"),
    Provider("xai", "XAI_API_KEY", "https://api.x.ai/v1"),
    Provider("gemini", "GEMINI_API_KEY", "https://generativelanguage.googleapis.com/v1beta/openai"),
    Provider("together", "TOGETHER_API_KEY", "https://api.together.xyz/v1"),
)


def settings_from_keys(environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[Loc, str]]:
    """Raw settings for every provider whose key is set, and which variable each part came from. Empty: none is."""
    upstreams: list[dict[str, Any]] = []
    models: list[dict[str, Any]] = []
    sources: dict[Loc, str] = {}
    plain = [p for p in PROVIDERS if not p.prefix and environ.get(p.key_variable, "").strip()]
    prefixed = [p for p in PROVIDERS if p.prefix and environ.get(p.key_variable, "").strip()]
    for provider in plain + prefixed:
        sources["upstreams", len(upstreams)] = provider.key_variable
        if environ.get(provider.url_variable):
            sources["upstreams", len(upstreams), "base_url"] = provider.url_variable
        upstreams.append(_upstream(provider, environ))
    if plain:
        sources["models", 0] = " and ".join(provider.key_variable for provider in plain)
        models.append({"name": "*", "targets": [{"upstream": provider.name, "model": "*"} for provider in plain]})
    for provider in prefixed:
        sources["models", len(models)] = provider.key_variable
        models.append({"name": f"{provider.name}/*", "targets": [{"upstream": provider.name, "model": "*"}]})
    return {"upstreams": upstreams, "models": models} if upstreams else {}, sources


def _upstream(provider: Provider, environ: Mapping[str, str]) -> dict[str, Any]:
    own_url = environ.get(provider.url_variable, "") if provider.url_variable else ""
    return {
        "name": provider.name,
        "dialect": provider.dialect.value,
        "base_url": own_url or provider.base_url,
        "api_key": {"env": provider.key_variable},
        "inject_usage": provider.inject_usage,
    }
