"""Outcomes are handed on together, to all who take them, each once and in their order."""

from collections.abc import Callable, Sequence

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.observe.batches import BATCH, Batches
from luntrex_proxy.observe.metrics import Metrics


def test_a_full_batch_is_handed_on_and_the_rest_when_asked_for(outcome: Callable[..., Outcome]) -> None:
    """The way of a request only appends; who reads has the rest handed on, and never the same ones again."""
    taken: list[Sequence[Outcome]] = []
    outcomes, bugs = [outcome(started_us=number) for number in range(BATCH + 44)], list[BaseException]()
    batches = Batches(bugs.append)
    batches.takers = (taken.append,)
    for each in outcomes:
        batches(each)
    assert [list(batch) for batch in taken] == [outcomes[:BATCH]]
    for _ in range(2):
        batches.hand_on()
        assert [list(batch) for batch in taken] == [outcomes[:BATCH], outcomes[BATCH:]]
    assert not bugs


def test_one_that_breaks_costs_the_others_nothing(outcome: Callable[..., Outcome]) -> None:
    """The bug is told; who comes after it takes the same outcomes, and nobody takes them twice."""
    taken, bugs, bug = list[Outcome](), list[BaseException](), RuntimeError("of ours")

    def breaks(_: Sequence[Outcome]) -> None:
        raise bug

    batches = Batches(bugs.append)
    batches.takers = (breaks, taken.extend)
    batches(outcome())
    batches.hand_on()
    batches.hand_on()
    assert bugs == [bug]
    assert taken == [outcome()]


def test_a_scrape_counts_what_was_held_back(outcome: Callable[..., Outcome]) -> None:
    """Also of a batch that is not full."""
    metrics, batches = Metrics(version="1", models=["mock-model"]), Batches(lambda _: None)
    batches.takers, metrics.before_render = (metrics.take,), batches.hand_on
    for number in range(1, 4):
        batches(outcome())
        assert b'luntrex_endings_total{ending="complete"} %d\n' % number in metrics.render()
