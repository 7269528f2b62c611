"""Labels from words, against what an account declares; each refusal is a sentence that echoes no key."""

import pytest

from luntrex_proxy.core.labels import BadLabelError, check_allowed, check_labels, read_labels


def test_words_become_labels() -> None:
    """Names and values of the strict form, each name once."""
    assert read_labels(["project=search", "cost_centre=4711.b"]) == {"project": "search", "cost_centre": "4711.b"}
    check_labels({"project": "search", "team": "any-word"}, {"project": frozenset({"search"}), "team": None})


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["project"], "Write a label as NAME=VALUE"),
        (["Project=x"], "A label's name is"),
        (["=x"], "A label's name is"),
        (["a" * 33 + "=x"], "A label's name is"),
        (["project="], "A value of the label project is"),
        (["project=a b"], "A value of the label project is"),
        (["project=ada@example.org"], "A value of the label project is"),
        (["project=" + "x" * 65], "A value of the label project is"),
        (["project=lx_AbCdEfGhIjKl"], "A value of the label project is"),
        (["project=x", "project=y"], "is given twice"),
    ],
)
def test_what_is_no_label(words: list[str], sentence: str) -> None:
    """What somebody wrote is not repeated where it may be anything."""
    with pytest.raises(BadLabelError, match=sentence) as caught:
        read_labels(words)
    assert "lx_" not in str(caught.value)


def test_only_what_is_declared_is_carried() -> None:
    """An unknown name says which there are, an unknown value which it could be."""
    declared = {"project": frozenset({"chat", "search"}), "team": None}
    for labels, sentence in (
        ({"stage": "prod"}, "declares no label stage, it has project, team"),
        ({"project": "shop"}, "shop is no value of the label project; choose from chat, search"),
    ):
        with pytest.raises(BadLabelError, match=sentence):
            check_labels(labels, declared)
    with pytest.raises(BadLabelError, match="it has none"):
        check_labels({"team": "x"}, {})
    with pytest.raises(BadLabelError, match="200 values at most, not 201"):
        check_allowed("team", [str(number) for number in range(201)])
