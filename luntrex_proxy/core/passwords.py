"""Which passwords people may choose, by NIST SP 800-63B-4, as pure functions; the lists come from outside.

Long enough and not one that others guess first. No rules of composition, no expiry, every character, none cut off.
"""

import itertools
import unicodedata
from collections.abc import Collection
from typing import Final

CHARACTERS_MIN: Final = 15  # when it is the only factor
CHARACTERS_MIN_WITH_CODE: Final = 8  # beside a second factor
CHARACTERS_MAX: Final = 256  # what is longer is a mistake of pasting
OUR_WORDS: Final = ("luntrex", "luntrex-proxy")
_UNIT_MAX: Final = 4  # a repetition of so few characters has no more to it than these
_WORD_MIN: Final = 4

GUESSED: Final = "This password is among those that are guessed first; choose another one, several words for example."


def normalised(password: str) -> str:
    """One form of the same characters, however a keyboard makes them."""
    return unicodedata.normalize("NFC", password)


def weakness(
    password: str, blocked: Collection[str], context: Collection[str] = (), *, characters_min: int = CHARACTERS_MIN
) -> str | None:
    """Why nobody may choose this password, in a sentence; None: it is good.

    `blocked` and `context` (words of the person and the place) are in the form of `folded`.
    """
    length = len(normalised(password))
    if length < characters_min:
        return f"A password has at least {characters_min} characters; several words make a good one."
    if length > CHARACTERS_MAX:
        return f"A password has at most {CHARACTERS_MAX} characters."
    whole = folded(password)
    unit = _unit_of(whole)
    core = whole.strip("".join({character for character in whole if not character.isalpha()}))
    if len(unit) <= _UNIT_MAX or _is_row(whole) or any(each in blocked for each in (whole, unit, core)):
        return GUESSED
    words = [word for word in context if len(word) >= _WORD_MIN]
    if any(each in words or _unit_of(each) in words for each in (whole, unit, core)):
        return "This password is made of your name or address, or ours; choose another one."
    return None


def folded(word: str) -> str:
    """A word as it is compared: guessing tries capitals as well."""
    return normalised(word).casefold()


def context_words(address: str, name: str) -> set[str]:
    """What a person's password must not consist of."""
    local, _, domain = address.partition("@")
    parts = (address, local, domain, domain.partition(".")[0], name, name.replace(" ", ""), *name.split(), *OUR_WORDS)
    return {folded(part) for part in parts if part}


def _unit_of(text: str) -> str:
    """The shortest text whose repetition, the last one maybe cut, this is."""
    for length in range(1, len(text) // 2 + 1):
        if all(text[at] == text[at - length] for at in range(length, len(text))):
            return text[:length]
    return text


def _is_row(text: str) -> bool:
    """Whether each character follows the one before in the alphabet or among the digits, up or down."""
    steps = {(ord(after) - ord(before)) % 10 if before.isdigit() and after.isdigit() else ord(after) - ord(before)
             for before, after in itertools.pairwise(text)}  # fmt: skip
    return steps in ({1}, {-1}, {9})
