"""What requests cost by providers' published price lists, worked out by hand from the dollars per million there.

    OpenAI      openai.com/api-priority-processing; flex: developers.openai.com/api/docs/guides/flex-processing,
                "priced at Batch API rates", half; lists: developers.openai.com/api/docs/pricing
    Anthropic   platform.claude.com/docs/en/about-claude/pricing; batch: the same page, half
    Google      ai.google.dev/gemini-api/docs/pricing
    Perplexity  docs.perplexity.ai/getting-started/pricing

Read in November 2026: Anthropic's pages and OpenAI's priority and flex pages, in copies. The figures of the others are
those that secondary pages quote from the lists named.

A case fails when the shipped price table says something else: then the table or the case is out of date.
"""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from luntrex_proxy.core.catalogue import Candidate
from luntrex_proxy.core.outcome import ServedTokens, Tokens
from luntrex_proxy.core.pricing import is_in_doubt, service_of
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import PriceBook

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
SETTINGS = Settings.model_validate(
    {
        "prices": {"service_tiers": {"priority": 200}},
        "upstreams": [
            {"name": "openai", "dialect": "openai", "base_url": "https://api.openai.com/v1"},
            {"name": "anthropic", "dialect": "anthropic", "base_url": "https://api.anthropic.com"},
            {
                "name": "google",
                "dialect": "openai",
                "base_url": "https://generativelanguage.googleapis.com/v1beta/openai",
            },
            {"name": "perplexity", "dialect": "openai", "base_url": "https://api.perplexity.ai"},
        ],
        "models": [
            {"name": "*", "targets": [{"upstream": "openai", "model": "*"}]},
            {
                "name": "own",
                "targets": [{"upstream": "openai", "model": "gpt-4.1"}],
                "price": {
                    "input": 2,
                    "output": 8,
                    "cached_input": 0.5,
                    "tiers": [{"above_input_tokens": 1_000, "input": 4, "output": 12, "cached_input": 1}],
                    "service_tiers": {"priority": 175},
                },
            },
        ],
    }
)


class Case(NamedTuple):
    """Tokens of one request, and what each class of them costs: tokens times dollars per million."""

    upstream: str
    model: str
    tokens: Tokens
    parts: tuple[tuple[int, float], ...]
    service: str = ""


CASES = {
    "OpenAI cached input": Case(
        "openai", "gpt-5", Tokens(10_000, cached_input=6_000, output=800), ((4_000, 1.25), (6_000, 0.125), (800, 10))
    ),
    "OpenAI reasoning is output": Case(
        "openai", "o3", Tokens(2_000, cached_input=1_000, output=5_000, reasoning=4_500),
        ((1_000, 2), (1_000, 0.5), (5_000, 8)),
    ),
    "OpenAI audio": Case(
        "openai", "gpt-audio", Tokens(1_500, input_audio=1_200, output=900, output_audio=700),
        ((300, 2.5), (1_200, 32), (200, 10), (700, 64)),
    ),
    "OpenAI embeddings": Case("openai", "text-embedding-3-small", Tokens(8_000), ((8_000, 0.02),)),
    "OpenAI long context": Case(
        "openai", "gpt-5.4", Tokens(300_000, cached_input=100_000, output=1_000),
        ((200_000, 5), (100_000, 0.5), (1_000, 22.5)),
    ),
    "OpenAI flex": Case(
        "openai", "o3", Tokens(2_000, cached_input=1_000, output=5_000), ((1_000, 1), (1_000, 0.25), (5_000, 4)), "flex"
    ),
    "OpenAI priority": Case(
        "openai", "gpt-5", Tokens(10_000, cached_input=6_000, output=800),
        ((4_000, 2.5), (6_000, 0.25), (800, 20)), "priority",
    ),
    "Anthropic cache writes and reads": Case(
        "anthropic", "claude-opus-4-5",
        Tokens(20_000, cached_input=12_000, cache_write_5m=3_000, cache_write_1h=2_000, output=1_000),
        ((3_000, 5), (12_000, 0.5), (3_000, 6.25), (2_000, 10), (1_000, 25)),
    ),
    "Anthropic cheap reads": Case(
        "anthropic", "claude-fable-5-1", Tokens(10_000, cached_input=9_000, output=100),
        ((1_000, 10), (9_000, 0.25), (100, 50)),
    ),
    "Anthropic at 200,000": Case(
        "anthropic", "claude-sonnet-4-5", Tokens(200_000, cached_input=50_000, output=100),
        ((150_000, 3), (50_000, 0.3), (100, 15)),
    ),
    "Anthropic above 200,000": Case(
        "anthropic", "claude-sonnet-4-5",
        Tokens(200_001, cached_input=50_000, cache_write_5m=10_000, cache_write_1h=1, output=100),
        ((140_000, 6), (50_000, 0.6), (10_000, 7.5), (1, 12), (100, 22.5)),
    ),
    "Anthropic without a tier any more": Case(
        "anthropic", "claude-sonnet-4-6", Tokens(400_000, output=100), ((400_000, 3), (100, 15))
    ),
    "Anthropic batch": Case(
        "anthropic", "claude-haiku-4-5", Tokens(10_000, cached_input=4_000, output=1_000),
        ((6_000, 0.5), (4_000, 0.05), (1_000, 2.5)), "batch",
    ),
    "Google at 200,000": Case(
        "google", "gemini-2.5-pro", Tokens(200_000, cached_input=100_000, output=10, reasoning=5),
        ((100_000, 1.25), (100_000, 0.125), (10, 10)),
    ),
    "Google above 200,000": Case(
        "google", "gemini-2.5-pro", Tokens(200_001, cached_input=100_000, output=10),
        ((100_001, 2.5), (100_000, 0.25), (10, 15)),
    ),
    "Google audio": Case(
        "google", "gemini-2.5-flash", Tokens(5_000, input_audio=4_000, output=100),
        ((1_000, 0.3), (4_000, 1), (100, 2.5)),
    ),
    "Perplexity reasoning has a price": Case(
        "perplexity", "sonar-deep-research", Tokens(1_000, output=3_000, reasoning=2_500),
        ((1_000, 2), (500, 8), (2_500, 3)),
    ),
    "own price, at its tier": Case(
        "openai", "own", Tokens(1_000, cached_input=400, output=10), ((600, 2), (400, 0.5), (10, 8))
    ),
    "own price, above its tier": Case(
        "openai", "own", Tokens(1_001, cached_input=400, output=10), ((601, 4), (400, 1), (10, 12))
    ),
    # GPT-4.1: $3.50, $0.875 and $14 at priority; 175 percent of the standard prices.
    "own price at its service tier": Case(
        "openai", "own", Tokens(1_000, cached_input=400, output=10), ((600, 3.5), (400, 0.875), (10, 14)), "priority"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_published_price(name: str) -> None:
    """To the pico-dollar: a dollar per million is a million pico-dollars per token."""
    case = CASES[name]
    book = PriceBook(SETTINGS.upstreams, SETTINGS.prices.service_tiers.percents(), lambda: NOON)
    catalogue = build_catalogue(SETTINGS.models, SETTINGS.upstreams)
    if case.model == "own":
        resolution = catalogue.resolve("own", SETTINGS.upstreams[0].dialect)
        assert resolution is not None
        price = book.price(resolution, Candidate("openai", "gpt-4.1", 1), "own")
    else:
        price = book.lookup(case.upstream, case.model)
    tokens = case.tokens
    assert sum(count for count, _ in case.parts) == tokens.input + tokens.output, "each token is in one part"
    if case.service:
        price = price.of(ServedTokens(*(getattr(tokens, field) for field in Tokens.__struct_fields__), case.service))
        assert price.version.endswith(f"/{case.service}")
    assert price.cost_pico(tokens) == sum(count * round(dollars * 1_000_000) for count, dollars in case.parts)


def test_audio_without_a_listed_price_is_in_doubt() -> None:
    """OpenAI lists $40 and $80 for the audio of gpt-4o-audio-preview, the shipped table only its text."""
    book = PriceBook(SETTINGS.upstreams, (), lambda: NOON)
    for model, doubt in (("gpt-4o-audio-preview", True), ("gpt-audio", False)):
        price = book.lookup("openai", model)
        assert price.of(Tokens(10, output=10)) is price
        for tokens in (Tokens(10, input_audio=5), Tokens(10, output=5, output_audio=5)):
            assert is_in_doubt(price.of(tokens).version) is doubt
    flex = book.lookup("openai", "gpt-4o-audio-preview").of(ServedTokens(10, input_audio=5, service="flex"))
    assert flex.version.endswith("/flex?")
    assert service_of(flex.version) == "flex"


def test_a_service_tier_without_a_price_is_in_doubt() -> None:
    """Charged as standard, and the record says that this is not known to be the price."""
    book = PriceBook(SETTINGS.upstreams, (), lambda: NOON)
    standard = book.lookup("anthropic", "claude-opus-4-5")
    fast = standard.served("fast")
    assert (fast.rates, fast.version) == (standard.rates, f"{standard.version}/fast?")
    assert standard.served("") is standard
