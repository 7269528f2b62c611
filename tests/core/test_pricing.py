"""What tokens cost: arithmetic in integers, subsets, fallbacks, tiers."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import astuple, replace

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import Ending, Outcome, ServedTokens, Tokens, UsageSource
from luntrex_proxy.core.pricing import (
    CLASSES,
    COST_LIMIT_PICO,
    Price,
    Rates,
    Services,
    Tier,
    cost_pico,
    fill_rates,
    is_in_doubt,
    service_of,
)
from luntrex_proxy.core.wire.usage import COUNT_LIMIT, read_tokens

# gpt-4o-mini, by hand: $0.15, $0.075 and $0.60 per million tokens.
MINI = fill_rates({"input": 150_000, "cached_input": 75_000, "output": 600_000})


def test_hand_example() -> None:
    """1000 input of which 400 cached, 200 output: 600 x 0.15 + 400 x 0.075 + 200 x 0.60 dollars per million."""
    tokens = Tokens(input=1_000, cached_input=400, output=200, reasoning=50)
    assert cost_pico(MINI, tokens) == 600 * 150_000 + 400 * 75_000 + 200 * 600_000 == 240_000_000


def test_one_million_tokens_at_one_dollar_cost_one_dollar() -> None:
    """The unit: a dollar is 10**12 pico-dollars."""
    assert cost_pico(fill_rates({"input": 1_000_000}), Tokens(input=1_000_000)) == 10**12


def test_each_class_has_its_own_rate() -> None:
    """Cache reads, both cache writes, audio and reasoning leave the base class."""
    rates = Rates(
        input=1, output=2, cached_input=10, cache_write_5m=100, cache_write_1h=1_000, input_audio=10_000,
        reasoning=100_000, output_audio=1_000_000,
    )  # fmt: skip
    tokens = Tokens(
        input=100, cached_input=3, cache_write_5m=5, cache_write_1h=7, input_audio=11, output=50, reasoning=13,
        output_audio=17,
    )  # fmt: skip
    base = (100 - 3 - 5 - 7 - 11) * 1 + (50 - 13 - 17) * 2
    assert cost_pico(rates, tokens) == base + 30 + 500 + 7_000 + 110_000 + 1_300_000 + 17_000_000


def test_missing_rates_fall_back() -> None:
    """A class without a rate costs what its base class costs; the one-hour write what the five-minute one costs."""
    rates = fill_rates({"input": 10, "output": 20, "cache_write_5m": 12})
    assert (rates.cached_input, rates.cache_write_5m, rates.cache_write_1h, rates.input_audio) == (10, 12, 12, 10)
    assert (rates.reasoning, rates.output_audio) == (20, 20)


def test_a_free_class_stays_free() -> None:
    """A listed zero is a price, not a gap."""
    assert fill_rates({"input": 10, "cached_input": 0}).cached_input == 0


def test_tier_replaces_all_rates_above_its_threshold() -> None:
    """The threshold itself still has the lower price; one token more and the whole request has the higher."""
    high = fill_rates({"input": 6, "output": 22})
    higher = fill_rates({"input": 9, "output": 30})
    rates = fill_rates({"input": 3, "output": 15}, [Tier(500, higher), Tier(200, high)])
    assert cost_pico(rates, Tokens(input=200, output=1)) == 200 * 3 + 15
    assert cost_pico(rates, Tokens(input=201, output=1)) == 201 * 6 + 22
    assert cost_pico(rates, Tokens(input=501, output=1)) == 501 * 9 + 30


def test_overlapping_subsets_charge_no_token_twice() -> None:
    """Cached audio is in two subsets; the sum stays within the input the upstream reported."""
    rates = fill_rates({"input": 10, "cached_input": 1, "input_audio": 100})
    assert cost_pico(rates, Tokens(input=100, cached_input=60, input_audio=80)) == 60 * 1 + 40 * 100


def test_a_service_tier_is_kept_where_no_price_is_known() -> None:
    """Or pricing anew would charge it as standard, and tell nobody."""
    flex = ServedTokens(1_000, 0, 0, 0, 0, 0, 0, 0, "flex")
    unknown = Price(None, "other", "").of(flex)
    assert (unknown.cost_pico(flex), unknown.version, is_in_doubt(unknown.version)) == (0, "/flex?", True)
    assert service_of(unknown.version) == "flex"
    known = Price(fill_rates({"input": 10}, services=(("flex", 50),)), "other", "v2").served(service_of("/flex?"))
    assert (known.cost_pico(flex), known.version) == (5_000, "v2/flex")


def test_unknown_price_costs_nothing() -> None:
    """No rates, no cost; the empty version says that it is not known."""
    assert Price(rates=None, model="other", version="").cost_pico(Tokens(input=5, output=5)) == 0


def test_the_largest_cost_can_be_recorded() -> None:
    """The greatest counts that are believed, at a million dollars per million, fit a record and a bigint."""
    usage = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens"), COUNT_LIMIT)
    split = dict.fromkeys(("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"), COUNT_LIMIT)
    tokens = read_tokens(Grammar.MESSAGES, {**usage, "cache_creation": split})
    assert tokens is not None
    assert tokens.input == 4 * COUNT_LIMIT
    price = Price(fill_rates({"input": 10**12, "output": 10**12}), "m", "config")
    cost = price.cost_pico(tokens)
    assert cost == COST_LIMIT_PICO == 2**63 - 1
    outcome = Outcome(
        "r", 1, 1, "k", "messages", "m", "u", 200, "ok", Ending.COMPLETE, False, UsageSource.REPORTED,
        *astuple(tokens), cost, price.version, 1, 1, 0, 1, 1, 1, 1,
    )  # fmt: skip
    record = msgspec.msgpack.encode(outcome)
    assert msgspec.msgpack.decode(record, type=Outcome) == outcome
    assert max(tokens.input, tokens.output) < 2**63


def test_a_great_cost_is_not_cut() -> None:
    """A billion tokens at a thousand dollars per million is a million dollars, to the pico-dollar."""
    rates = fill_rates({"input": 10**9})
    assert cost_pico(rates, Tokens(input=10**9)) == 10**18


COUNTS = st.integers(min_value=0, max_value=10_000_000)
RATES = st.builds(
    lambda values: Rates(**dict(zip(CLASSES, values, strict=True))),
    st.tuples(*[st.integers(min_value=0, max_value=10**12)] * len(CLASSES)),
)
NONSENSE = st.builds(Tokens, *[st.integers(min_value=-100, max_value=10**9)] * 8)


@given(rates=RATES, tokens=NONSENSE)
def test_any_numbers_stay_in_bounds(rates: Rates, tokens: Tokens) -> None:
    """Whatever an upstream reports, the cost is never negative and never above all tokens at the dearest rate."""
    dearest_input = max(rates.input, rates.cached_input, rates.cache_write_5m, rates.cache_write_1h, rates.input_audio)
    dearest_output = max(rates.output, rates.reasoning, rates.output_audio)
    bound = max(tokens.input, 0) * dearest_input + max(tokens.output, 0) * dearest_output
    assert 0 <= cost_pico(rates, tokens) <= bound


@given(rates=RATES, parts=st.tuples(*[COUNTS] * 8))
def test_disjoint_classes_add_up(rates: Rates, parts: tuple[int, ...]) -> None:
    """When the subsets do not overlap, the cost is the plain sum of count times rate."""
    plain_in, cached, write_5m, write_1h, audio_in, plain_out, reasoning, audio_out = parts
    tokens = Tokens(
        input=plain_in + cached + write_5m + write_1h + audio_in,
        cached_input=cached,
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        input_audio=audio_in,
        output=plain_out + reasoning + audio_out,
        reasoning=reasoning,
        output_audio=audio_out,
    )
    assert cost_pico(rates, tokens) == min(COST_LIMIT_PICO,
        plain_in * rates.input + cached * rates.cached_input + write_5m * rates.cache_write_5m
        + write_1h * rates.cache_write_1h + audio_in * rates.input_audio + plain_out * rates.output
        + reasoning * rates.reasoning + audio_out * rates.output_audio
    )  # fmt: skip


@given(count=COUNTS, rate=st.integers(min_value=0, max_value=10**12))
def test_a_uniform_price_ignores_the_split(count: int, rate: int) -> None:
    """With one rate for all, it does not matter which class a token is in."""
    rates = fill_rates({"input": rate, "output": rate})
    half = count // 2
    assert cost_pico(rates, Tokens(input=count, cached_input=half, output=count, reasoning=half)) == min(
        COST_LIMIT_PICO, 2 * count * rate
    )


@given(rates=RATES, above=RATES, into=st.integers(0, 1_000), out=st.integers(0, 1_000))
def test_the_dearest_is_what_the_dearest_split_costs(rates: Rates, above: Rates, into: int, out: int) -> None:
    """No less, so that a budget holds; and no more than can be. Of a larger request by its own rates."""
    rates = replace(rates, tiers=(Tier(500, above),))
    per_input, per_output, percent = rates.dearest(into)
    splits = [
        Tokens(input=into, cache_write_1h=written, output=out, reasoning=thought)
        for written in (0, into)
        for thought in (0, out)
    ]
    assert min(COST_LIMIT_PICO, into * per_input + out * per_output) == max(cost_pico(rates, each) for each in splits)
    assert percent == 100


@pytest.mark.parametrize(
    ("services", "percent"), [((), 100), ((("flex", 50),), 100), ((("flex", 50), ("priority", 200)), 200)]
)
def test_the_dearest_service_tier_counts(services: Services, percent: int) -> None:
    """And the standard one, if it is that."""
    assert fill_rates({"input": 1, "output": 2}, services=services).dearest(0) == (1, 2, percent)


def test_every_token_class_has_a_rate() -> None:
    """A new token class in the outcome cannot be forgotten here."""
    assert set(CLASSES) == set(Tokens.__struct_fields__)
    assert set(Rates.__struct_fields__) == {*CLASSES, "tiers", "services", "audio_listed"}


def test_a_service_tier_has_its_share_of_every_rate() -> None:
    """Tiers for larger requests too; half a pico-dollar is rounded up; what is recorded tells which it was."""
    high = fill_rates({"input": 7, "output": 20})
    price = Price(fill_rates({"input": 3, "output": 10}, [Tier(100, high)], (("flex", 50),)), "m", "v1")
    flex = price.of(ServedTokens(input=10, output=1, service="flex"))
    assert (flex.version, is_in_doubt(flex.version), service_of(flex.version)) == ("v1/flex", False, "flex")
    assert flex.cost_pico(Tokens(input=10, output=1)) == 10 * 2 + 5
    assert flex.cost_pico(Tokens(input=101, output=1)) == 101 * 4 + 10
    doubtful = price.of(ServedTokens(input=10, output=1, service="priority"))
    assert (doubtful.version, is_in_doubt(doubtful.version), service_of(doubtful.version)) == (
        *("v1/priority?", True, "priority"),
    )
    assert doubtful.cost_pico(Tokens(input=10, output=1)) == 40
    assert price.of(Tokens(input=1)) is price
    assert (is_in_doubt(""), is_in_doubt("v1"), service_of("v1")) == (True, False, "")
