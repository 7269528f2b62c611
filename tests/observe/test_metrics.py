"""The metrics: right numbers under bounded labels, in text that Prometheus's own parser reads, and quickly."""

import sys
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from luntrex_proxy.core.outcome import Ending, Outcome, Tokens, UsageSource
from luntrex_proxy.observe.exposition import Histogram, HistogramChild
from luntrex_proxy.observe.metrics import MODEL_LIMIT, WATCHED_NAMES, Metrics

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: bytes | str) -> Samples:
    """All samples of an exposition, as prometheus_client's parser reads them."""
    text = text.decode() if isinstance(text, bytes) else text
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def test_an_outcome_is_counted_in_every_family(outcome: Callable[..., Outcome]) -> None:
    """Requests, ending, tokens by class, and the three durations."""
    metrics = Metrics(version="1.2.3", models=["mock-model"])
    metrics.take([outcome(), outcome(duration_us=31_000_000)])
    found = parsed(metrics.render())
    here = {"route": "chat.completions"}
    assert value(found, "luntrex_build_info", version="1.2.3") == 1
    assert value(found, "luntrex_requests_total", **here, upstream="local", model="mock-model", status="200") == 2
    assert value(found, "luntrex_endings_total", ending="complete") == 2
    assert value(found, "luntrex_tokens_total", **{"class": "input"}, model="mock-model") == 200
    assert value(found, "luntrex_tokens_total", **{"class": "cached_input"}, model="mock-model") == 40
    assert value(found, "luntrex_tokens_total", **{"class": "reasoning"}, model="mock-model") == 20
    assert value(found, "luntrex_request_duration_seconds_bucket", **here, le="0.5") == 0
    assert value(found, "luntrex_request_duration_seconds_bucket", **here, le="1.0") == 1
    assert value(found, "luntrex_request_duration_seconds_bucket", **here, le="+Inf") == 2
    assert value(found, "luntrex_request_duration_seconds_sum", **here) == 31.8
    assert value(found, "luntrex_time_to_first_byte_seconds_count", **here) == 2
    assert value(found, "luntrex_overhead_seconds_bucket", le="0.00025") == 0
    assert value(found, "luntrex_overhead_seconds_bucket", le="0.0005") == 2
    assert value(found, "luntrex_overhead_seconds_sum") == 0.0006


def test_a_refusal_is_counted_by_its_reason_and_has_no_upstream_numbers(outcome: Callable[..., Outcome]) -> None:
    """Nothing was asked upstream, so overhead and tokens stay untouched."""
    metrics = Metrics(version="1")
    refused = outcome(
        code="invalid_api_key", status=401, ending=Ending.REFUSED, upstream="", model="other", account_id=0,
        attempts=0, first_byte_us=0, **Tokens().columns(), usage_source=UsageSource.NONE,
    )  # fmt: skip
    metrics.take([refused])
    found = parsed(metrics.render())
    assert value(found, "luntrex_denied_total", reason="invalid_api_key") == 1
    assert value(found, "luntrex_denied_total", reason="not_json") == 0
    assert value(found, "luntrex_overhead_seconds_count") == 0
    assert value(found, "luntrex_time_to_first_byte_seconds_count", route="chat.completions") == 0
    assert value(found, "luntrex_request_duration_seconds_count", route="chat.completions") == 1


def test_requests_without_a_known_price_are_counted(outcome: Callable[..., Outcome]) -> None:
    """None known, or not that of their service tier; of what used no tokens nothing is owed."""
    metrics = Metrics(version="1", models=["mock-model"])
    assert value(parsed(metrics.render()), "luntrex_unpriced_requests_total", model="mock-model") == 0
    nothing = Tokens().columns()
    for more in ({"price_version": ""}, {"price_version": "v1/fast?"}, {"price_version": "v1/flex"}, {}):
        metrics.take([outcome(**more)])
    metrics.take([outcome(price_version="", **nothing)])
    assert value(parsed(metrics.render()), "luntrex_unpriced_requests_total", model="mock-model") == 2


def of_many_kinds(outcome: Callable[..., Outcome], count: int) -> list[Outcome]:
    """Of two routes, and a model and an upstream for each."""
    return [
        outcome(
            route=("chat.completions", "messages")[number % 2],
            model=f"m{number}",
            upstream=f"u{number}",
            duration_us=1000 * number,
            overhead_us=10 * number,
            attempts=number % 3,
            output_tokens=number,
        )
        for number in range(count)
    ]


def test_outcomes_of_many_kinds_count_together_as_one_by_one(outcome: Callable[..., Outcome]) -> None:
    """However they come, the scrape says the same."""
    outcomes = of_many_kinds(outcome, 60)
    together, alone = (Metrics(version="1", models=[each.model for each in outcomes]) for _ in range(2))
    together.take(outcomes)
    for each in outcomes:
        alone.take([each])
    assert parsed(together.render()) == parsed(alone.render())
    assert value(parsed(together.render()), "luntrex_request_duration_seconds_count", route="messages") == 30


def test_durations_are_counted_by_route_and_not_by_kind(
    outcome: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many models as requests each would else be sorted into three histograms by itself."""
    metrics, observe, observed = Metrics(version="1"), HistogramChild.observe, 0

    def counting(child: HistogramChild, values_us: Iterable[int]) -> None:
        nonlocal observed
        observed += 1
        observe(child, values_us)

    monkeypatch.setattr(HistogramChild, "observe", counting)
    metrics.take(of_many_kinds(outcome, 60))
    assert observed == 2 * 3


def test_known_series_are_there_at_zero_before_the_first_request() -> None:
    """So that rate() sees the first increment."""
    found = parsed(Metrics(version="1", models=["a-model"]).render())
    assert value(found, "luntrex_tokens_total", **{"class": "output"}, model="a-model") == 0
    assert value(found, "luntrex_endings_total", ending="cut") == 0
    assert value(found, "luntrex_denied_total", reason="body_too_large") == 0
    assert value(found, "luntrex_request_duration_seconds_count", route="messages") == 0


def test_labels_stay_bounded_whatever_comes(outcome: Callable[..., Outcome]) -> None:
    """Models beyond the limit, odd statuses, unknown codes and routes fold; nothing is lost from the sums."""
    metrics = Metrics(version="1", models=["mock-model"])
    for number in range(5_000):
        metrics.take([outcome(model=f"model-{number}")])
    metrics.take([outcome(status=status) for status in range(100, 1000)])
    metrics.take([outcome(code="unheard-of", ending=Ending.REFUSED, route="/v1/secret")])
    found = parsed(metrics.render())
    requests = {labels: n for (name, labels), n in found.items() if name == "luntrex_requests_total"}
    assert sum(requests.values()) == 5_901
    assert len({dict(labels)["model"] for labels in requests}) <= MODEL_LIMIT + 1
    assert len(requests) < 400
    assert value(found, "luntrex_denied_total", reason="other") == 1
    assert b"secret" not in metrics.render()
    assert b"unheard-of" not in metrics.render()
    assert sum(n for (name, _), n in found.items() if name == "luntrex_request_duration_seconds_count") == 5_901


def test_no_label_holds_a_key_an_account_or_a_request_id(outcome: Callable[..., Outcome]) -> None:
    """Ids are for the ledger."""
    metrics = Metrics(version="1")
    metrics.take(
        [outcome(request_id="canary-request", key_id="canary-key", account_id=987_654_321, price_version="canary-p")]
    )
    text = metrics.render()
    assert b"canary" not in text
    assert b"987654321" not in text


def test_watched_values_are_read_at_the_scrape() -> None:
    """Numbers and mappings, with the type of the family; unknown names are refused."""
    metrics = Metrics(version="1")
    spooled = [5]
    metrics.watch("luntrex_ledger_spooled_total", lambda: spooled[0])
    metrics.watch("luntrex_upstream_health", lambda: {'quote"d\\up\nstream': 1, "b": 0})
    metrics.watch("luntrex_loop_lag_seconds", lambda: 0.0025)
    spooled[0] = 6
    found = parsed(metrics.render())
    assert value(found, "luntrex_ledger_spooled_total") == 6
    assert value(found, "luntrex_upstream_health", upstream='quote"d\\up\nstream') == 1
    assert value(found, "luntrex_loop_lag_seconds") == 0.0025
    assert b"# TYPE luntrex_ledger_spooled_total gauge" in metrics.render()
    with pytest.raises(ValueError, match="not a metric"):
        metrics.watch("luntrex_surprise", lambda: 1)


def test_every_name_of_the_public_contract_exists() -> None:
    """Design section 12."""
    metrics = Metrics(version="1")
    for name in WATCHED_NAMES:
        metrics.watch(name, lambda: {"a": 1} if name == "luntrex_upstream_health" else 1)  # noqa: B023 -- read below
        metrics.render()
    text = metrics.render().decode()
    contract = [
        "requests_total", "request_duration_seconds", "overhead_seconds", "time_to_first_byte_seconds", "tokens_total",
        "inflight_requests", "denied_total", "ledger_accepted_total", "ledger_stored_total", "ledger_spooled_total",
        "ledger_quarantined_total", "ledger_lost_total", "revocation_lag_seconds", "upstream_health",
        "loop_lag_seconds", "build_info",
    ]  # fmt: skip
    assert [name for name in contract if f"# TYPE luntrex_{name} " not in text] == []


@given(st.lists(st.integers(min_value=0, max_value=20_000_000), max_size=50))
def test_histograms_agree_with_prometheus_client(values_us: list[int]) -> None:
    """The library is the oracle: same observations, same buckets, same sum."""
    bounds = (0.001, 0.5, 1, 10)
    ours = Histogram("h_seconds", "h", bounds, ("route",))
    registry = prometheus_client.CollectorRegistry()
    theirs = prometheus_client.Histogram("h_seconds", "h", ["route"], buckets=bounds, registry=registry).labels("a")
    child = ours.child("a")
    for value_us in values_us:
        child.observe([value_us])
        theirs.observe(value_us / 1e6)
    expected = parsed(prometheus_client.generate_latest(registry))
    found = parsed("".join(ours.render()))
    for key in found:
        assert found[key] == pytest.approx(expected[key])
    assert {key for key in expected if not key[0].endswith("_created")} == set(found)


def test_a_scrape_of_500_histograms_is_a_few_calls_each() -> None:
    """It holds the loop: prometheus_client makes many calls for each line. How long it takes, the benchmarks show."""
    histogram = Histogram("h_seconds", "h", (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30), ("route",))
    for number in range(500):
        histogram.child(f"r{number}").observe([number * 1000])
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    text = "".join(histogram.render())
    sys.setprofile(None)
    assert text.count("\n") == 2 + 500 * 15
    assert calls < 500 * 20
