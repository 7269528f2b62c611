"""No file: provider keys in the environment make a working configuration."""

from pathlib import Path

import pytest

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.loading import Loaded, load
from luntrex_proxy.settings.prices import PriceBook
from luntrex_proxy.settings.providers import PROVIDERS
from luntrex_proxy.settings.upstreams import RetentionKind, Training

pytestmark = pytest.mark.usefixtures("config")  # no file on this machine counts


def from_keys(**environ: str) -> Loaded:
    """What `serve` would load with these variables."""
    return load(None, environ, serving=True)


def test_openai_and_anthropic_share_the_wildcard() -> None:
    """Every model name passes, each dialect to its own provider, bytes untouched."""
    loaded = from_keys(OPENAI_API_KEY="sk-1", ANTHROPIC_API_KEY="sk-2")
    assert loaded.from_environment
    catalogue = build_catalogue(loaded.settings.models, loaded.settings.upstreams)
    for dialect, upstream in ((Dialect.OPENAI, "openai"), (Dialect.ANTHROPIC, "anthropic")):
        found = catalogue.resolve("any-model", dialect)
        assert found is not None
        assert [(c.upstream, c.model) for c in found.candidates] == [(upstream, None)]


def test_others_have_a_prefix() -> None:
    """`groq/llama` goes to Groq as `llama`; without OpenAI's key there is no bare wildcard."""
    settings = from_keys(GROQ_API_KEY="g", MISTRAL_API_KEY="m").settings
    catalogue = build_catalogue(settings.models, settings.upstreams)
    found = catalogue.resolve("groq/llama", Dialect.OPENAI)
    assert found is not None
    assert [(c.upstream, c.model) for c in found.candidates] == [("groq", "llama")]
    assert catalogue.resolve("llama", Dialect.OPENAI) is None


def test_all_providers_load_and_have_endpoints() -> None:
    """The whole table is valid, and its hosts are known to the price table."""
    loaded = from_keys(**{provider.key_variable: "k" for provider in PROVIDERS})
    settings = loaded.settings
    assert {upstream.name for upstream in settings.upstreams} == {provider.name for provider in PROVIDERS}
    endpoints = {upstream.name: upstream.endpoint for upstream in settings.upstreams}
    assert all(endpoint.tls and endpoint.port == 443 for endpoint in endpoints.values())
    assert (endpoints["openai"].host, endpoints["openai"].path) == ("api.openai.com", "/v1")
    assert (endpoints["anthropic"].host, endpoints["anthropic"].path) == ("api.anthropic.com", "/v1")
    assert endpoints["gemini"].path == "/v1beta/openai"
    book = PriceBook(settings.upstreams)
    found = {name: provider.id for name, provider in book._provider_of.items() if provider}
    assert found == {
        "openai": "openai", "anthropic": "anthropic", "openrouter": "openrouter", "groq": "groq", "mistral": "mistral",
        "deepseek": "deepseek", "xai": "x-ai", "gemini": "google", "together": "together",
    }  # fmt: skip


def test_mistral_gets_no_stream_options() -> None:
    """It answers 422 to the field."""
    upstreams = from_keys(MISTRAL_API_KEY="m", GROQ_API_KEY="g").settings.upstreams
    assert {upstream.name: upstream.inject_usage for upstream in upstreams} == {"groq": True, "mistral": False}


def test_privacy_is_known_only_where_it_was_read() -> None:
    """What the providers publish; unknown for the rest. These are the ones that work under the default policy."""
    settings = from_keys(**{provider.key_variable: "k" for provider in PROVIDERS}).settings
    upstreams = settings.upstreams
    assert {u.name for u in upstreams if u.retention.kind is RetentionKind.UNKNOWN} == {
        "openrouter", "deepseek", "together",
    }  # fmt: skip
    assert {u.name for u in upstreams if u.training is Training.UNKNOWN} == {"openrouter", "gemini"}
    bound = settings.policy.bound()
    assert {u.name for u in upstreams if bound.admits(u.traits)} == {"openai", "anthropic", "groq", "xai"}


@pytest.mark.parametrize("url", ["https://api.openai.com", "https://api.openai.com/v1/"])
def test_own_base_url(url: str) -> None:
    """The SDKs' variables are honoured; the provider's own URL keeps its privacy attributes."""
    upstream = from_keys(OPENAI_API_KEY="k", OPENAI_BASE_URL=url).settings.upstreams[0]
    assert (upstream.endpoint.host, upstream.endpoint.path) == ("api.openai.com", "/v1")
    assert upstream.training is Training.NEVER


def test_another_server_s_privacy_is_unknown() -> None:
    """A key for OpenAI's dialect elsewhere promises nothing."""
    loaded = from_keys(ANTHROPIC_API_KEY="k", ANTHROPIC_BASE_URL="http://127.0.0.1:9/x")
    upstream = loaded.settings.upstreams[0]
    assert upstream.endpoint.path == "/x/v1"
    assert (upstream.retention.kind, upstream.training) == (RetentionKind.UNKNOWN, Training.UNKNOWN)
    assert loaded.origins["upstreams[0].base_url"] == "environment ANTHROPIC_BASE_URL"
    assert loaded.origins["upstreams[0].name"] == "environment ANTHROPIC_API_KEY"
    assert loaded.origins["upstreams[0].region"] == "default"


def test_errors_name_the_variable() -> None:
    """There is no file to point at."""
    with pytest.raises(ConfigError) as caught:
        from_keys(OPENAI_API_KEY="lx_mine", OPENAI_BASE_URL="api.openai.com")
    assert sorted(caught.value.lines) == [
        "OPENAI_API_KEY: is a luntrex key (lx_...): put the provider's own key here",
        "OPENAI_BASE_URL: must start with https:// or http://",
    ]


def test_blank_keys_do_not_count() -> None:
    """An empty variable is no key."""
    with pytest.raises(ConfigError, match="nothing to serve"):
        from_keys(OPENAI_API_KEY=" ", GROQ_API_KEY="")


def test_a_file_turns_this_off(config: Path) -> None:
    """With a file, keys in the environment add nothing."""
    config.write_text("gateway: {}\n")
    loaded = load(config, {"OPENAI_API_KEY": "k"})
    assert (loaded.settings.upstreams, loaded.from_environment) == ((), False)
