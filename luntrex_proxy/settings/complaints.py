"""What pydantic found wrong, in our words. A value is never quoted: it may be a secret in the wrong place."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from luntrex_proxy.settings.contradictions import suggest
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.section import Loc, fields_at

# Longer or stranger keys are pointed at, not quoted: somebody may have pasted a secret with the wrong indentation.
_QUOTABLE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")

_SENTENCES: dict[str, str | Callable[[Mapping[str, Any]], str]] = {
    "missing": "is missing",
    "string_type": "must be text; put it in quotes if it looks like a number, a date or yes/no",
    "string_too_short": "must not be empty",
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']} characters",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "greater_than": lambda ctx: f"must be more than {ctx['gt']:g}",
    "greater_than_equal": lambda ctx: f"must be at least {ctx['ge']}",
    "less_than_equal": lambda ctx: f"must be at most {ctx['le']}",
    "tuple_type": "must be a list",
    "model_type": "must be a mapping of keys and values",
    "path_type": "must be an absolute path",
    "enum": lambda ctx: f"must be {ctx['expected']}",
    "literal_error": lambda ctx: f"must be {ctx['expected']}",
    "luntrex": lambda ctx: str(ctx["sentence"]),
}


def explain(error: ValidationError) -> Iterator[tuple[Loc, str, bool]]:
    """Place and sentence of everything in `error`, and whether it is the key itself that is wrong."""
    for detail in error.errors(include_url=False):
        yield tuple(detail["loc"]), _sentence(detail), detail["type"] == "extra_forbidden"


def unknown_key(key: str, fields: Iterable[str]) -> str:
    """The sentence for a key that does not exist."""
    return f"unknown key{suggest(key.replace('-', '_').lower(), list(fields))}"


def quotable(loc: Loc) -> Loc:
    """`loc` up to the first key that looks too strange to be a mistyped one."""
    for depth, part in enumerate(loc):
        if isinstance(part, str) and not _QUOTABLE_KEY.fullmatch(part):
            return loc[:depth]
    return loc


def _sentence(detail: ErrorDetails) -> str:
    kind, loc = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        return unknown_key(str(loc[-1]), fields_at(Settings, loc[:-1]))
    found = _SENTENCES.get(kind, "is not valid")
    if isinstance(found, str):
        return found
    sentence = found(detail.get("ctx", {}))
    allowed = re.findall(r"'([^']+)'", sentence) if kind in {"enum", "literal_error"} else []
    if len(allowed) > 1 and isinstance(detail["input"], str):
        return sentence + suggest(detail["input"].lower(), allowed)
    return sentence
