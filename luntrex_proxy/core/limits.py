"""What a limit of an account or a key says: how much of what in which time. How it is kept: core/buckets.py.

read_limits(["requests/minute=60"]) -> {"requests/minute": 60}, or BadLimitError
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from luntrex_proxy.core.scope import MODEL

AMOUNT_MAX: Final = 10**12
OPEN, CLOSED = "open", "closed"  # while nobody can say what other processes let in: go on alone, or refuse
MODELS_MAX: Final = 64  # with limits of their own, of one account or key: a new model is compared with all of them
_NS_PER_S: Final = 10**9


class What(msgspec.Struct, frozen=True, eq=False):
    """What a limit counts, in which period; streams are counted while they run."""

    word: str
    unit: str
    period_ns: int

    @property
    def words(self) -> str:
        """As it reads in a sentence."""
        return self.word.replace("/", " per ") if "/" in self.word else f"{self.word} at once"


def _whats() -> Iterable[What]:
    for unit in ("requests", "tokens"):
        for period, seconds in (("minute", 60), ("hour", 3600), ("day", 86_400)):
            yield What(f"{unit}/{period}", unit, seconds * _NS_PER_S)
    yield What("streams", "streams", 1)


WHATS: Final = {what.word: what for what in _whats()}
Amounts = Mapping[str, int]  # by the words of WHATS
Terms = Mapping[str, Amounts]  # all limits of one account or key: by model, as a name or beginning and *; "": of any


class BadLimitError(Exception):
    """One sentence that says what is wrong with a limit."""


def check_amount(word: str, amount: int) -> None:
    """Raise BadLimitError when a limit cannot have this amount."""
    if not 1 <= amount <= AMOUNT_MAX:
        raise BadLimitError(f"{word} is 1 to {AMOUNT_MAX}, not {amount}; to stop a key or an account, suspend it.")


def check_terms(terms: Terms) -> None:
    """Raise BadLimitError when these cannot be the limits of an account or key."""
    if len(terms) > MODELS_MAX:
        raise BadLimitError(f"At most {MODELS_MAX} models have limits of their own; use beginnings such as gpt-4*.")
    for model, amounts in terms.items():
        if model and MODEL.fullmatch(model) is None:
            raise BadLimitError(f"{model!r} is no model name; give one as clients write it, or a beginning and `*`.")
        for word, amount in amounts.items():
            check_amount(word, amount)
        _check_together(amounts)


def _check_together(amounts: Amounts) -> None:
    for unit in ("requests", "tokens"):
        shorter = ""
        for word in (each for each in WHATS if WHATS[each].unit == unit and each in amounts):
            if shorter and amounts[shorter] > amounts[word]:
                raise BadLimitError(
                    f"{shorter}={amounts[shorter]} can never be reached: {word} is {amounts[word]}; lower the first or "
                    "raise the second."
                )
            shorter = word


def read_limits(words: Iterable[str]) -> dict[str, int]:
    """Limits as `requests/minute=60`. Raises BadLimitError: unknown, given twice, no number, out of bounds."""
    amounts: dict[str, int] = {}
    for given in words:
        word, equals, number = given.partition("=")
        if word not in WHATS or not equals:
            raise BadLimitError(f"{given!r} is no limit; write one as requests/minute=60, with {', '.join(WHATS)}.")
        digits = number.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 30):
            raise BadLimitError(f"{word} needs a whole number, such as {word}=60.")
        if word in amounts:
            raise BadLimitError(f"{word} is given twice; give it once.")
        check_amount(word, int(number))
        amounts[word] = int(number)
    return amounts
