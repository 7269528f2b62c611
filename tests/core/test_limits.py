"""What a limit may say: each wrong word gets one sentence, and nothing impossible or pointless is taken."""

import pytest

from luntrex_proxy.core.limits import AMOUNT_MAX, MODELS_MAX, WHATS, BadLimitError, check_terms, read_limits


def test_limits_are_read_as_they_are_written() -> None:
    """Words to numbers; nothing given is nothing."""
    assert read_limits(["requests/minute=60", "tokens/day=1000000", "streams=5"]) == {
        "requests/minute": 60,
        "tokens/day": 1_000_000,
        "streams": 5,
    }
    assert read_limits([]) == {}
    assert {what.words for what in WHATS.values()} >= {"requests per minute", "tokens per day", "streams at once"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["requests/second=1"], "'requests/second=1' is no limit; write one as requests/minute=60"),
        (["requests/minute"], "is no limit; write one as"),
        (["requests/minute="], "requests/minute needs a whole number"),
        (["requests/minute=1.5"], "requests/minute needs a whole number"),
        (["requests/minute=\u0661"], "requests/minute needs a whole number"),
        (["requests/minute=" + "9" * 5_000], "requests/minute needs a whole number"),
        (["requests/minute=-1"], "requests/minute is 1 to 1000000000000, not -1; to stop a key"),
        (["requests/minute=0"], "not 0; to stop a key or an account, suspend it"),
        ([f"tokens/day={AMOUNT_MAX + 1}"], "tokens/day is 1 to 1000000000000, not 1000000000001"),
        (["streams=1", "streams=2"], "streams is given twice; give it once."),
    ],
)
def test_a_wrong_word_is_one_sentence(words: list[str], sentence: str) -> None:
    """Unknown, no number, negative, too large, twice."""
    with pytest.raises(BadLimitError) as raised:
        read_limits(words)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_bounds_are_allowed() -> None:
    """The smallest and the largest amount of everything."""
    for word in WHATS:
        check_terms({"": {word: 1}})
        check_terms({"gpt-4o": {word: AMOUNT_MAX}, "gpt-*": {word: 1}, "*": {}})
        with pytest.raises(BadLimitError, match="is 1 to"):
            check_terms({"m": {word: 0}})


@pytest.mark.parametrize("model", ["lx_abc", "a b", "a*b", "x" * 200, "a\n"])
def test_a_limit_is_of_a_model_that_there_can_be(model: str) -> None:
    """A key in its place, or what no client could ask for."""
    with pytest.raises(BadLimitError, match="is no model name"):
        check_terms({model: {"streams": 1}})


def test_models_with_limits_of_their_own_are_bounded() -> None:
    """A model asked for is compared with all of them."""
    check_terms({f"m{number}": {"streams": 1} for number in range(MODELS_MAX)})
    with pytest.raises(BadLimitError, match="At most 64 models"):
        check_terms({f"m{number}": {"streams": 1} for number in range(MODELS_MAX + 1)})


def test_limits_that_contradict_each_other_are_refused() -> None:
    """More in a shorter time than in a longer one can never be used; of different models it can."""
    check_terms({"": {"requests/minute": 5, "requests/day": 5, "tokens/minute": 9, "streams": 1}})
    check_terms({"": {"requests/day": 5}, "m": {"requests/minute": 6}})
    with pytest.raises(BadLimitError, match="requests/minute=6 can never be reached: requests/day is 5"):
        check_terms({"": {"requests/day": 5, "requests/minute": 6}})
    with pytest.raises(BadLimitError, match="tokens/hour=6 can never be reached: tokens/day is 5"):
        check_terms({"m": {"tokens/minute": 1, "tokens/hour": 6, "tokens/day": 5}})
