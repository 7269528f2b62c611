"""Labels of keys: which names and values there can be, read from words and checked against what an account declares.

read_labels(["project=x"]) -> {"project": "x"}, or BadLabelError
check_labels({"project": "x"}, {"project": frozenset({"x"})})   BadLabelError: not declared, or no value of it

They are what operators and accounts say about keys; nothing of a request is ever one.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
NAME_RULE: Final = "1 to 32 lower-case letters, digits and underscores, the first a letter"
# None begins as a key does: somebody may have put a whole one there, and labels are shown.
VALUE: Final = re.compile(r"(?!lxp?_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
VALUE_RULE: Final = "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit"
NAMES_MAX: Final = 5  # of an account
VALUES_MAX: Final = 200  # of a name
Labels = Mapping[str, str]
Allowed = frozenset[str] | None  # values of a name; None: any
Declared = Mapping[str, Allowed]


class BadLabelError(Exception):
    """One sentence that says what is wrong with a label."""


def check_name(name: str) -> None:
    """Raise BadLabelError when no label can have this name."""
    if NAME.fullmatch(name) is None:
        raise BadLabelError(f"A label's name is {NAME_RULE}, such as cost_centre.")


def check_value(name: str, value: str) -> None:
    """Raise BadLabelError when no label can have this value."""
    if VALUE.fullmatch(value) is None:
        raise BadLabelError(f"A value of the label {name} is {VALUE_RULE}.")


def check_allowed(name: str, values: Iterable[str]) -> None:
    """Raise BadLabelError when these cannot be a label's values."""
    check_name(name)
    kept = set(values)
    if len(kept) > VALUES_MAX:
        raise BadLabelError(
            f"A label has {VALUES_MAX} values at most, not {len(kept)}; without any, every word is one."
        )
    for value in sorted(kept):
        check_value(name, value)


def check_labels(labels: Labels, declared: Declared) -> None:
    """Raise BadLabelError when keys of an account with these declarations cannot carry them."""
    for name, value in labels.items():
        check_name(name)
        if name not in declared:
            known = f"it has {', '.join(sorted(declared))}" if declared else "it has none"
            raise BadLabelError(
                f"The account declares no label {name}, {known}; `luntrex-proxy accounts labels declare` adds one."
            )
        check_value(name, value)
        allowed = declared[name]
        if allowed is not None and value not in allowed:
            raise BadLabelError(f"{value} is no value of the label {name}; choose from {', '.join(sorted(allowed))}.")


def read_labels(words: Iterable[str]) -> dict[str, str]:
    """Labels as `project=x`. Raises BadLabelError: no label, or given twice."""
    labels: dict[str, str] = {}
    for given in words:
        name, equals, value = given.partition("=")
        if not equals:
            raise BadLabelError("Write a label as NAME=VALUE, such as project=search.")
        check_name(name)
        check_value(name, value)
        if name in labels:
            raise BadLabelError(f"The label {name} is given twice; give it once.")
        labels[name] = value
    return labels
