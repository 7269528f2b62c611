"""Models of the configuration as the catalogue has them: canaries, defaults, and what reloads change."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import choose_order, shares
from luntrex_proxy.settings.catalogue import build_catalogue
from luntrex_proxy.settings.model import Settings

PLACE = {"dialect": "openai", "base_url": "http://127.0.0.1:1/v1"}


def resolved(
    targets: list[dict[str, Any]], name: str = "m", asked: str = "m", dialect: Dialect = Dialect.OPENAI
) -> Any:
    """The candidates of a model with these targets."""
    upstreams = [{"name": each, **PLACE} for each in "abc"] + [{**PLACE, "name": "ant", "dialect": "anthropic"}]
    settings = Settings.model_validate({"upstreams": upstreams, "models": [{"name": name, "targets": targets}]})
    found = build_catalogue(settings.models, settings.upstreams).resolve(asked, dialect)
    assert found is not None
    return found.candidates


@pytest.mark.parametrize("said", [1, "1%", "1.00", 1.0])
def test_a_canary_gets_its_percentage(said: Any) -> None:
    """Whatever the weights of the others, which share the rest by them; of a thousand draws ten."""
    found = resolved(
        [{"upstream": "a", "model": "m", "weight": 3}, {"upstream": "b", "model": "m", "weight": 6},
         {"upstream": "c", "model": "new", "canary": said}]
    )  # fmt: skip
    assert [round(share, 9) for share in shares(found)] == [0.33, 0.66, 0.01]
    first = Counter(choose_order(found, draw / 1_000)[0].upstream for draw in range(1_000))
    assert first == {"a": 330, "b": 660, "c": 10}


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=4).filter(any),
    st.lists(st.integers(1, 4_000), min_size=1, max_size=2),
)
def test_shares_are_exact(weights: list[int], parts: list[int]) -> None:
    """A hundredth of a percent is the smallest part; those of weight 0 get none."""
    targets: list[dict[str, Any]] = [{"upstream": "a", "model": f"m{n}", "weight": w} for n, w in enumerate(weights)]
    targets += [{"upstream": "b", "model": f"c{n}", "canary": part / 100} for n, part in enumerate(parts)]
    found = resolved(targets)
    whole = sum(candidate.weight for candidate in found)
    for candidate, part in zip(found[len(weights) :], parts, strict=True):
        assert candidate.weight * 10_000 == part * whole
    rest = sum(weights)
    for candidate, weight in zip(found, weights, strict=False):
        assert candidate.weight * rest * 10_000 == weight * whole * (10_000 - sum(parts))


def test_shares_are_those_of_a_dialect() -> None:
    """Targets of the other dialect are none for a caller, so they take nothing of the share either."""
    targets = [
        {"upstream": "a", "model": "m"}, {"upstream": "ant", "model": "m", "weight": 99},
        {"upstream": "b", "model": "m", "canary": 25},
    ]  # fmt: skip
    assert shares(resolved(targets)) == [0.75, 0.25]
    assert [candidate.upstream for candidate in resolved(targets, dialect=Dialect.ANTHROPIC)] == ["ant"]


def test_what_nobody_names_goes_to_the_default() -> None:
    """`*` is asked last: every name goes there under its own, or under one that is named."""
    assert resolved([{"upstream": "a", "model": "*"}], "*", "whatever")[0].model is None
    assert resolved([{"upstream": "a", "model": "small"}], "*", "whatever")[0].model == "small"
