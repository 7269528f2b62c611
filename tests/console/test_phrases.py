"""How words of configuration and records read on pages."""

import pytest

from luntrex_proxy.console.pages import phrases


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "anything"),
        ("retention=abuse_monitoring:30; training=never",
         "kept for abuse monitoring, 30 days at most; never trained on"),
        ("region=ch,eu; retention=none", "processed only in ch or eu; not kept"),
        ("retention=application_state; training=unless_opted_out",
         "kept as state of applications; trained on: unless somebody opted out"),
    ],
)  # fmt: skip
def test_a_policy(text: str, words: str) -> None:
    """Every item that it has."""
    assert phrases.policy(text) == words


def test_other_words() -> None:
    """What has no words of its own stays."""
    assert [phrases.kept(word) for word in ("", "unknown", "abuse_monitoring", "some_thing:3")] == [
        "not stated", "not known", "for abuse monitoring", "some thing, 3 days at most",
    ]  # fmt: skip
    assert [phrases.training(word) for word in ("", "never", "unknown")] == ["not stated", "never", "not known"]
    assert [phrases.right("erase"), phrases.standing("waiting"), phrases.standing("done")] == [
        "erasure", "waits to be carried out", "done",
    ]  # fmt: skip
    assert [phrases.kept_for(words) for words in ("2192 days", "1 day", "as long as you are here")] == [
        "2,192 days (6 years)", "1 day", "as long as you are here",
    ]  # fmt: skip
    assert [phrases.period(days) for days in (1, 396, 730, 3_653)] == [
        "1 day", "396 days", "730 days (2 years)", "3,653 days (10 years)",
    ]  # fmt: skip
