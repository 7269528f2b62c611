"""Model names to upstreams: exact before wildcard, dialects, aliases, weights."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.catalogue import Candidate, Catalogue, Entry, Target, choose_order, shares
from luntrex_proxy.core.pricing import fill_rates

OPENAI, ANTHROPIC = Dialect.OPENAI, Dialect.ANTHROPIC


def to(model: str, upstream: str = "up", dialect: Dialect = OPENAI, weight: int = 1) -> Target:
    """A target, shortly."""
    return Target(upstream, dialect, model, weight)


def test_exact_name_keeps_the_bytes() -> None:
    """The same name upstream: nothing to splice, and the catalogue's name is recorded."""
    found = Catalogue([Entry("gpt", (to("gpt"),))]).resolve("gpt", OPENAI)
    assert found is not None
    assert found.name == "gpt"
    assert found.candidates == (Candidate("up", None, 1),)


def test_alias_names_the_upstream_model() -> None:
    """Another name upstream is spliced in."""
    found = Catalogue([Entry("fast", (to("gpt-4o-mini"), to("llama", "own", weight=3)))]).resolve("fast", OPENAI)
    assert found is not None
    assert found.candidates == (Candidate("up", "gpt-4o-mini", 1), Candidate("own", "llama", 3))


@pytest.mark.parametrize(
    ("asked", "upstream", "model", "recorded"),
    [
        ("gpt-4o", "exact", None, "gpt-4o"),
        ("gpt-4o-2024", "gpt", None, None),
        ("groq/llama", "groq", "llama", None),
        ("groq/meta/llama", "meta", "vendor/llama", None),
        ("anything", "all", None, None),
        ("groq/", "all", None, None),
    ],
)
def test_most_specific_wins(asked: str, upstream: str, model: str | None, recorded: str | None) -> None:
    """Exact, then the longest prefix, then *; a wildcard stands for at least one character."""
    catalogue = Catalogue(
        [
            Entry("*", (to("*", "all"),)),
            Entry("groq/*", (to("*", "groq"),)),
            Entry("gpt-4o", (to("gpt-4o", "exact"),)),
            Entry("groq/meta/*", (to("vendor/*", "meta"),)),
            Entry("gpt-*", (to("gpt-*", "gpt"),)),
        ]
    )
    found = catalogue.resolve(asked, OPENAI)
    assert found is not None
    assert (found.candidates, found.name) == ((Candidate(upstream, model, 1),), recorded)


def test_a_fixed_target_of_a_wildcard() -> None:
    """Without * the target's model is always the same."""
    found = Catalogue([Entry("gpt-*", (to("gpt-5"),))]).resolve("gpt-4", OPENAI)
    assert found is not None
    assert found.candidates[0].model == "gpt-5"


def test_dialect_filters_targets() -> None:
    """Each caller sees only the targets that speak its dialect."""
    catalogue = Catalogue([Entry("*", (to("*", "oai"), to("*", "ant", ANTHROPIC)))])
    for dialect, upstream in ((OPENAI, "oai"), (ANTHROPIC, "ant")):
        found = catalogue.resolve("m", dialect)
        assert found is not None
        assert [candidate.upstream for candidate in found.candidates] == [upstream]


def test_the_most_specific_entry_decides_alone() -> None:
    """A named model without a target in the caller's dialect does not leak through to a broader wildcard."""
    catalogue = Catalogue(
        [Entry("gpt", (to("gpt"),)), Entry("g/*", (to("*"),)), Entry("*", (to("*", "x", ANTHROPIC),))]
    )
    assert catalogue.resolve("gpt", ANTHROPIC) is None
    assert catalogue.resolve("g/x", ANTHROPIC) is None
    assert catalogue.resolve("other", ANTHROPIC) is not None


def test_unknown_and_empty_names() -> None:
    """Nothing matches: None. An empty name matches not even *."""
    assert Catalogue([Entry("a", (to("a"),))]).resolve("b", OPENAI) is None
    assert Catalogue([Entry("*", (to("*"),))]).resolve("", OPENAI) is None
    assert Catalogue([]).resolve("a", OPENAI) is None


def test_own_price_is_carried() -> None:
    """The configuration's price goes along, for exact names and wildcards."""
    rates = fill_rates({"input": 1})
    catalogue = Catalogue([Entry("a", (to("a"),), rates), Entry("b/*", (to("*"),), rates)])
    for name in ("a", "b/x"):
        found = catalogue.resolve(name, OPENAI)
        assert found is not None
        assert found.rates is rates


def test_list_models_has_exact_names_of_the_dialect() -> None:
    """`GET /v1/models` lists names that work, in the file's order; wildcards are no names."""
    catalogue = Catalogue(
        [Entry("z", (to("z"),)), Entry("*", (to("*"),)), Entry("a", (to("a"),)), Entry("c", (to("c", "x", ANTHROPIC),))]
    )
    assert catalogue.list_models(OPENAI) == ("z", "a")
    assert catalogue.list_models(ANTHROPIC) == ("c",)


NAMES = st.text(alphabet="ab/-", max_size=6)


@given(prefixes=st.sets(NAMES, max_size=6), exact=st.sets(NAMES.filter(bool), max_size=4), asked=NAMES)
def test_resolution_agrees_with_its_definition(prefixes: set[str], exact: set[str], asked: str) -> None:
    """For any set of names, the answer is what the rule says, and the upstream gets what the client named."""
    entries = [Entry(prefix + "*", (to("T*", prefix + "*"),)) for prefix in sorted(prefixes)]
    entries += [Entry(name, (to(name, name),)) for name in sorted(exact)]
    found = Catalogue(entries).resolve(asked, OPENAI)
    matching = [prefix for prefix in prefixes if asked.startswith(prefix) and asked != prefix]
    if asked in exact:
        assert found is not None
        assert found.candidates == (Candidate(asked, None, 1),)
    elif matching:
        longest = max(matching, key=len)
        assert found is not None
        assert found.candidates == (Candidate(longest + "*", "T" + asked[len(longest) :], 1),)
    else:
        assert found is None


@given(
    weights=st.lists(st.integers(min_value=1, max_value=1_000), min_size=1, max_size=6),
    random01=st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_order_is_a_permutation(weights: list[int], random01: float) -> None:
    """Every candidate appears once, whatever the number."""
    candidates = tuple(Candidate(str(index), None, weight) for index, weight in enumerate(weights))
    assert sorted(choose_order(candidates, random01), key=lambda found: int(found.upstream)) == list(candidates)


def test_weights_decide_first_and_second_place() -> None:
    """Over evenly spread numbers, places fall out as drawing by weight without replacement says."""
    candidates = (Candidate("a", None, 6), Candidate("b", None, 3), Candidate("c", None, 1))
    steps = 10_000
    orders = Counter("".join(c.upstream for c in choose_order(candidates, step / steps)) for step in range(steps))
    expected = {
        "abc": 0.6 * 3 / 4,
        "acb": 0.6 * 1 / 4,
        "bac": 0.3 * 6 / 7,
        "bca": 0.3 * 1 / 7,
        "cab": 0.1 * 6 / 9,
        "cba": 0.1 * 3 / 9,
    }
    for order, share in expected.items():
        assert orders[order] / steps == pytest.approx(share, abs=0.002), order


@pytest.mark.parametrize("costs", [None, [1.0, 1.0, 1.0, 1.0]])
@given(random01=st.floats(0, 1, exclude_max=True))
def test_weight_0_comes_last(costs: list[float] | None, random01: float) -> None:
    """In its place among its like; with nobody else in the order it has."""
    candidates = [Candidate(str(at), None, weight) for at, weight in enumerate((0, 3, 0, 2))]
    order = "".join(candidate.upstream for candidate in choose_order(candidates, random01, costs))
    assert order in ("1302", "3102")
    assert choose_order([candidates[0], candidates[2]], random01) == (candidates[0], candidates[2])
    assert shares(candidates) == [0, 0.6, 0, 0.4]
    assert shares([candidates[0], candidates[2]]) == [1, 0]
