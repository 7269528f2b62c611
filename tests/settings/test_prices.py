"""The price book: the table's numbers, our integers, names that are safe to record, and no network."""

import re
import socket
from datetime import UTC, datetime

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelPrice, TimeOfDateConstraint, Usage
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Resolution
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.pricing import cost_pico, fill_rates
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.prices import PriceBook, _rates

VERSION = f"genai-{genai_prices.__version__}"
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
SETTINGS = Settings.model_validate(
    {
        "upstreams": [
            {"name": "openai", "dialect": "openai", "base_url": "https://api.openai.com/v1"},
            {"name": "anthropic", "dialect": "anthropic", "base_url": "https://api.anthropic.com"},
            {"name": "deepseek", "dialect": "openai", "base_url": "https://api.deepseek.com/v1"},
            {"name": "relay", "dialect": "anthropic", "base_url": "http://10.0.0.1:9/x"},
        ]
    }
)


class Clock:
    """A clock that is set by hand."""

    now_s = NOON

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(name="book")
def make_book() -> PriceBook:
    """A price book at noon."""
    return PriceBook(SETTINGS.upstreams, clock=Clock())


def test_gpt_4o_mini_by_hand(book: PriceBook) -> None:
    """$0.15 input, $0.075 cached, $0.60 output per million."""
    price = book.lookup("openai", "gpt-4o-mini")
    assert (price.model, price.version) == ("gpt-4o-mini", VERSION)
    assert price.rates is not None
    assert (price.rates.input, price.rates.cached_input, price.rates.output) == (150_000, 75_000, 600_000)
    assert price.cost_pico(Tokens(input=1_000, cached_input=400, output=200)) == 240_000_000


def test_claude_cache_classes_by_hand(book: PriceBook) -> None:
    """Haiku 4.5: $1 input, $0.10 cache read, $1.25 and $2 cache writes, $5 output per million."""
    price = book.lookup("anthropic", "claude-haiku-4-5-20251001")
    assert price.model == "claude-haiku-4-5"
    tokens = Tokens(input=10_000, cached_input=7_000, cache_write_5m=1_000, cache_write_1h=500, output=300)
    assert price.cost_pico(tokens) == (
        1_500 * 1_000_000 + 7_000 * 100_000 + 1_000 * 1_250_000 + 500 * 2_000_000 + 300 * 5_000_000
    )


def test_long_context_tier_by_hand(book: PriceBook) -> None:
    """Sonnet 4.5 above 200,000 input tokens: $6 input, $22.50 output."""
    price = book.lookup("anthropic", "claude-sonnet-4-5")
    assert price.cost_pico(Tokens(input=200_000, output=10)) == 200_000 * 3_000_000 + 10 * 15_000_000
    assert price.cost_pico(Tokens(input=200_001, output=10)) == 200_001 * 6_000_000 + 10 * 22_500_000


def _listed() -> list[tuple[str, ModelPrice]]:
    found = []
    for provider in get_snapshot().providers:
        if provider.id in {"openai", "anthropic", "google", "groq", "mistral", "deepseek"}:
            found += [
                (f"{provider.id}/{m.id}", m.get_prices(datetime.fromtimestamp(NOON, UTC))) for m in provider.models
            ]
    return found


LISTED = _listed()


@given(
    listed=st.sampled_from(LISTED),
    parts=st.tuples(*[st.integers(min_value=0, max_value=400_000)] * 4),
    output=st.integers(min_value=0, max_value=100_000),
)
def test_agrees_with_the_table_s_own_arithmetic(
    listed: tuple[str, ModelPrice], parts: tuple[int, ...], output: int
) -> None:
    """For any model and counts our integers equal the package's decimals."""
    rates = _rates(listed[1])
    if rates is None:
        return
    _, cached, write_5m, write_1h = parts
    ours = cost_pico(rates, Tokens(sum(parts), cached, write_5m, write_1h, output=output))
    usage = Usage(
        input_tokens=sum(parts),
        cache_read_tokens=cached,
        cache_write_tokens=write_5m + write_1h,
        cache_write_5m_tokens=write_5m,
        cache_write_1h_tokens=write_1h,
        output_tokens=output,
    )
    prices = {key: value for key, value in listed[1].__dict__.items() if key.endswith("_mtok")}
    theirs = ModelPrice(**prices).calc_price(usage)["total_price"]
    assert ours == theirs * 10**12, listed[0]


def test_unknown_models_are_other(book: PriceBook) -> None:
    """An unknown name is not recorded: it is the client's text."""
    for model in ("my-secret-project", "gpt-4o-mini " + "x" * 500):
        price = book.lookup("openai", model)
        assert (price.rates, price.model, price.version) == (None, "other", "")
    assert book.lookup("no-such-upstream", "gpt-4o-mini").model == "other"


def test_unknown_host_is_a_relay_of_its_dialect(book: PriceBook) -> None:
    """An own relay to Anthropic has Anthropic's prices."""
    assert book.lookup("relay", "claude-haiku-4-5").rates is not None
    assert book.lookup("relay", "gpt-4o-mini").rates is None


def test_price_joins_catalogue_and_table(book: PriceBook) -> None:
    """Exact names are recorded as they are; own prices win; wildcards take the table's name."""
    own = fill_rates({"input": 1, "output": 2})
    aliased, same = Candidate("openai", "gpt-4o-mini", 1), Candidate("openai", None, 1)

    exact = book.price(Resolution("house", (aliased,), None), aliased, "house")
    assert (exact.model, exact.version) == ("house", VERSION)
    assert exact.rates is not None
    assert exact.rates.input == 150_000

    priced = book.price(Resolution("house", (aliased,), own), aliased, "house")
    assert (priced.model, priced.rates) == ("house", own)
    assert re.fullmatch("config-[0-9a-f]{8}", priced.version)
    assert book.price(Resolution("house", (aliased,), own), aliased, "house") == priced
    dearer = book.price(Resolution("house", (aliased,), fill_rates({"input": 2, "output": 2})), aliased, "house")
    assert dearer.version != priced.version

    wild = book.price(Resolution(None, (same,), None), same, "gpt-4o-mini-2024-07-18")
    assert (wild.model, wild.version) == ("gpt-4o-mini", VERSION)

    wild_priced = book.price(Resolution(None, (same,), own), same, "canary-model")
    assert (wild_priced.model, wild_priced.version, wild_priced.rates) == ("other", priced.version, own)

    unknown = book.price(Resolution("house", (same,), None), same, "house")
    assert (unknown.model, unknown.version, unknown.rates) == ("house", "", None)


def test_memory_is_bounded(book: PriceBook) -> None:
    """A client that invents names does not grow us, nor the package underneath."""
    snapshot = get_snapshot()
    before = len(snapshot._lookup_cache), len(snapshot._provider_cache), len(snapshot._provider_misses)
    for number in range(1_300):
        book.lookup("anthropic", f"invented-{number}")
    assert len(book._cache) == 1_000
    assert (len(snapshot._lookup_cache), len(snapshot._provider_cache), len(snapshot._provider_misses)) == before


def test_known_models_answer_from_memory(book: PriceBook) -> None:
    """The second question gives the same object."""
    assert book.lookup("openai", "gpt-4o-mini") is book.lookup("openai", "gpt-4o-mini")


def test_prices_change_with_the_time_of_day() -> None:
    """A price that begins at a time of day is in force from the next half hour on."""
    clock = Clock()
    book = PriceBook(SETTINGS.upstreams, clock=clock)
    seen = set()
    for half_hour in range(48):
        clock.now_s = datetime(2026, 11, 23, tzinfo=UTC).timestamp() + half_hour * 1_800 + 1
        rates = book.lookup("deepseek", "deepseek-v4-pro").rates
        assert rates is not None
        seen.add(rates)
    assert len(seen) == 2


def test_the_table_s_times_are_half_hours() -> None:
    """What the cache's period rests on."""
    for provider in get_snapshot().providers:
        for model in provider.models:
            for price in model.prices if isinstance(model.prices, list) else []:
                if isinstance(price.constraint, TimeOfDateConstraint):
                    times = (price.constraint.start_time, price.constraint.end_time)
                    assert all(moment.minute in {0, 30} and moment.second == 0 for moment in times), model.id


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Building and asking opens no socket and resolves no name."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise AssertionError("the price book used the network")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    assert PriceBook(SETTINGS.upstreams).lookup("openai", "gpt-4o-mini").rates is not None


def test_every_upstream_dialect_has_a_home() -> None:
    """Both dialects' own providers are in the table."""
    assert {dialect.value for dialect in Dialect} <= {provider.id for provider in get_snapshot().providers}
