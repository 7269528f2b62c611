"""Which passwords may be chosen: long enough and not guessed first; every character counts, and none is demanded."""

import pytest

from luntrex_proxy.core.passwords import context_words, folded, normalised, weakness

BLOCKED = {folded(word) for word in ("password", "correcthorsebatterystaple", "Letmein123456789")}
CONTEXT = context_words("ada.lovelace@analytical-engines.example", "Ada Lovelace")


@pytest.mark.parametrize(
    "password",
    [
        "a quiet river in may",
        "nnsvpzrtkqwmfjd",  # fifteen letters, no digit, no capital, no sign
        "               x",  # spaces are characters
        "пароль от моря тихого",
        "🦊🌲🏔🌊🔥🌙⭐🍄🐝🐢🦉🐍🦋🌵🌻",
        "x" * 3 + "y quite long and odd" * 11,  # far more than 64
        "ada lovelace likes long walks",  # words of the person within it are no fault
    ],
)
def test_long_ones_are_good(password: str) -> None:
    """Whatever they are made of."""
    assert weakness(password, BLOCKED, CONTEXT) is None


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("fourteen chars", "at least 15 characters"),
        ("", "at least 15 characters"),
        ("🦊" * 14, "at least 15 characters"),  # four bytes each do not make it longer
        ("x9" * 129, "at most 256 characters"),
        ("correcthorsebatterystaple", "guessed first"),
        ("CORRECThorsebatterystaple", "guessed first"),
        ("letmein123456789", "guessed first"),
        ("password2026!!!!", "guessed first"),
        ("passwordpassword", "guessed first"),
        ("passwordpasswordpa", "guessed first"),
        ("aaaaaaaaaaaaaaaa", "guessed first"),
        ("abcabcabcabcabcab", "guessed first"),
        ("123456789012345678", "guessed first"),
        ("987654321098765", "guessed first"),
        ("abcdefghijklmnopq", "guessed first"),
        ("luntrexluntrexluntrex", "made of your name or address"),
        ("ada.lovelace@analytical-engines.example", "made of your name or address"),
        ("adalovelace1815!", "made of your name or address"),
        ("analytical-engines", "made of your name or address"),
    ],
)
def test_guessed_ones_are_refused(password: str, says: str) -> None:
    """With a sentence that says what to do."""
    assert says in str(weakness(password, BLOCKED, CONTEXT))


def test_beside_a_second_factor_eight_are_enough() -> None:
    """As the standard has it; the lists count all the same."""
    assert weakness("tk9 wq!x", BLOCKED, CONTEXT, characters_min=8) is None
    assert "at least 8" in str(weakness("tk9 wq!", BLOCKED, CONTEXT, characters_min=8))
    assert "guessed first" in str(weakness("Password", BLOCKED, CONTEXT, characters_min=8))


def test_one_character_has_one_form() -> None:
    """A letter and its accent, typed as one or as two, are the same password and count once."""
    assert normalised("e\u0301") == "\u00e9"
    assert "at least 15" in str(weakness("e\u0301" * 10, BLOCKED))
