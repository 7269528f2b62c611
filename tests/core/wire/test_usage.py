"""Token counts from usage objects: subsets, absences, and numbers that cannot be true."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.core.call import Grammar
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.usage import COUNT_LIMIT, merge_usage, read_tokens


@pytest.mark.parametrize(
    ("grammar", "usage", "tokens"),
    [
        (
            Grammar.CHAT,
            {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": None},
            Tokens(input=5, output=7),
        ),
        (
            Grammar.CHAT,
            {
                "prompt_tokens": 9,
                "completion_tokens": 7,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 3, "audio_tokens": 1},
                "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 2},
            },
            Tokens(input=9, cached_input=2, cache_write_5m=3, input_audio=1, output=7, reasoning=4, output_audio=2),
        ),
        (Grammar.NONE, {"prompt_tokens": 8, "total_tokens": 8}, Tokens(input=8)),
        (Grammar.CHAT, {"prompt_tokens": 0, "completion_tokens": 0}, Tokens()),
        (Grammar.CHAT, {"prompt_tokens": 5, "completion_tokens": None}, Tokens(input=5)),
        (Grammar.CHAT, {"prompt_tokens": None, "completion_tokens": None}, None),
        (Grammar.CHAT, {"prompt_tokens": COUNT_LIMIT, "completion_tokens": 0}, Tokens(input=COUNT_LIMIT)),
        (
            Grammar.CHAT,
            {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": -1}},
            Tokens(input=5, output=2),
        ),
        (
            Grammar.CHAT,
            {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 9}},
            Tokens(input=5, cached_input=5),
        ),
        (Grammar.CHAT, {"prompt_tokens": 5, "prompt_tokens_details": [1]}, Tokens(input=5)),
        (Grammar.CHAT, {"total_tokens": 5}, None),
        (Grammar.CHAT, {}, None),
        (Grammar.CHAT, None, None),
        (Grammar.CHAT, [1], None),
        (
            Grammar.RESPONSES,
            {
                "input_tokens": 5,
                "output_tokens": 3,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 1},
            },
            Tokens(input=5, cached_input=4, output=3, reasoning=1),
        ),
        (
            Grammar.MESSAGES,
            {"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": None, "cache_read_input_tokens": 20},
            Tokens(input=25, cached_input=20, output=3),
        ),
        (
            Grammar.MESSAGES,
            {"input_tokens": 5, "output_tokens": 3, "cache_creation_input_tokens": 10},
            Tokens(input=15, cache_write_5m=10, output=3),
        ),
        (
            Grammar.MESSAGES,
            {
                "input_tokens": 5,
                "output_tokens": 3,
                "cache_creation_input_tokens": 10,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
            },
            Tokens(input=15, cache_write_5m=4, cache_write_1h=6, output=3),
        ),
        (
            Grammar.MESSAGES,
            {
                "input_tokens": 5,
                "output_tokens": 3,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
            },
            Tokens(input=15, cache_write_5m=4, cache_write_1h=6, output=3),
        ),
        (
            Grammar.MESSAGES,
            {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"thinking_tokens": 7}},
            Tokens(input=5, output=9, reasoning=7),
        ),
    ],
)
def test_counts(grammar: Grammar, usage: Any, tokens: Tokens | None) -> None:
    """Each rule of wire formats 1.3, 1.4 and 2.2."""
    assert read_tokens(grammar, usage) == tokens


NONSENSE: tuple[Any, ...] = (-1, 10**9 + 1, 10**30, 2.0, 0.0, True, False, "7", "", [], {})


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize(
    ("grammar", "name"),
    [
        (Grammar.CHAT, "prompt_tokens"),
        (Grammar.CHAT, "completion_tokens"),
        (Grammar.NONE, "prompt_tokens"),
        (Grammar.RESPONSES, "input_tokens"),
        (Grammar.RESPONSES, "output_tokens"),
        (Grammar.MESSAGES, "input_tokens"),
        (Grammar.MESSAGES, "output_tokens"),
        (Grammar.MESSAGES, "cache_creation_input_tokens"),
        (Grammar.MESSAGES, "cache_read_input_tokens"),
    ],
)
def test_nonsense_is_no_zero(grammar: Grammar, name: str, value: Any) -> None:
    """One implausible count makes the object useless: a zero in its place would be billed as reported."""
    good = {"prompt_tokens": 5, "completion_tokens": 3, "input_tokens": 5, "output_tokens": 3}
    assert read_tokens(grammar, good) is not None
    assert read_tokens(grammar, {**good, name: value}) is None


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_nonsense_in_the_split_of_cache_writes(value: Any) -> None:
    """Without a total the split is what is billed."""
    usage = {"input_tokens": 5, "output_tokens": 3, "cache_creation": {"ephemeral_1h_input_tokens": value}}
    assert read_tokens(Grammar.MESSAGES, usage) is None


def test_cumulative_usage_overwrites() -> None:
    """A later number replaces an earlier one, null and absent ones leave it; nonsense stands until it is restated."""
    known = merge_usage({}, {"input_tokens": 5, "output_tokens": 1, "cache_read_input_tokens": 3, "service_tier": "x"})
    known = merge_usage(known, {"output_tokens": 9, "input_tokens": None, "unheard_of": 7})
    assert known == {"input_tokens": 5, "output_tokens": 9, "cache_read_input_tokens": 3, "service_tier": "x"}
    garbled = merge_usage(known, {"cache_read_input_tokens": -1})
    assert read_tokens(Grammar.MESSAGES, garbled) is None
    assert merge_usage(garbled, {"cache_read_input_tokens": 3}) == known
    assert merge_usage(known, None) is known
    assert merge_usage(known, {"output_tokens": 0})["output_tokens"] == 0


NUMBER = st.none() | st.integers(-5, 50) | st.floats() | st.text(max_size=2) | st.integers()
NAMES = (
    "prompt_tokens",
    "completion_tokens",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "audio_tokens",
    "thinking_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
)
FLAT = st.dictionaries(st.sampled_from(NAMES), NUMBER)
PARTS = (
    "prompt_tokens_details",
    "completion_tokens_details",
    "input_tokens_details",
    "output_tokens_details",
    "cache_creation",
)


@given(st.sampled_from(list(Grammar)), FLAT, st.dictionaries(st.sampled_from(PARTS), FLAT | NUMBER))
def test_subsets_are_contained(grammar: Grammar, flat: dict[str, Any], parts: dict[str, Any]) -> None:
    """Whatever an upstream claims, parts never exceed their whole, so a price is never negative."""
    tokens = read_tokens(grammar, {**flat, **parts})
    if tokens is not None:
        assert tokens.cached_input + tokens.cache_write_5m + tokens.cache_write_1h <= tokens.input
        assert max(tokens.reasoning, tokens.output_audio) <= tokens.output
        assert tokens.input_audio <= tokens.input
        assert min(getattr(tokens, name) for name in tokens.__struct_fields__) >= 0
