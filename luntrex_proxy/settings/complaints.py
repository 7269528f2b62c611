"""What pydantic found wrong, in our words. A value is never quoted: it may be a secret in the wrong place."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from luntrex_proxy.settings.contradictions import suggest
from luntrex_proxy.settings.documents import Document
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.section import Loc, fields_at, show_loc
from luntrex_proxy.settings.sentences import Sentences, sentence_of

# Longer or stranger keys are pointed at, not quoted: somebody may have pasted a secret with the wrong indentation.
_QUOTABLE_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,23}")

# What is said otherwise of a file than of a request: people write it by hand.
_OF_A_FILE: Final[Sentences] = {
    "string_type": "must be text; put it in quotes if it looks like a number, a date or yes/no",
    "string_too_short": "must not be empty",
    "model_type": "must be a mapping of keys and values",
    "dict_type": "must be a mapping of keys and values",
}


@dataclass(frozen=True, slots=True)
class Complaint:
    """Something that is wrong in a file."""

    loc: Loc
    sentence: str
    is_unknown_key: bool = False


def explain(error: ValidationError, root: type[BaseModel] = Settings) -> Iterator[Complaint]:
    """Place and sentence of everything in `error`, of a file that is to be a `root`."""
    for detail in error.errors(include_url=False):
        yield Complaint(tuple(detail["loc"]), _sentence(detail, root), detail["type"] == "extra_forbidden")


def placed_lines(file: object, document: Document, complaints: Iterable[Complaint]) -> list[str]:
    """`file:line:column: key: sentence` of these and of what the document says itself, from top to bottom."""
    found = [(place, loc, sentence) for place, loc, sentence in document.faults]
    for each in complaints:
        key_place = document.keys.get(each.loc) if each.is_unknown_key else None
        found.append((key_place or document.place_of(each.loc), each.loc, each.sentence))
    lines = []
    for (line, column), loc, sentence in sorted(found, key=lambda fault: fault[0]):
        key = show_loc(quotable(loc))
        lines.append(f"{file}:{line}:{column}: {key + ': ' if key else ''}{sentence}")
    return lines


def unknown_key(key: str, fields: Iterable[str]) -> str:
    """The sentence for a key that does not exist."""
    return f"unknown key{suggest(key.replace('-', '_').lower(), list(fields))}"


def quotable(loc: Loc) -> Loc:
    """`loc` up to the first key that looks too strange to be a mistyped one."""
    for depth, part in enumerate(loc):
        if isinstance(part, str) and not _QUOTABLE_KEY.fullmatch(part):
            return loc[:depth]
    return loc


def _sentence(detail: ErrorDetails, root: type[BaseModel]) -> str:
    kind, loc = detail["type"], detail["loc"]
    if kind == "extra_forbidden":
        return unknown_key(str(loc[-1]), fields_at(root, loc[:-1]))
    sentence = sentence_of(detail, _OF_A_FILE)
    allowed = re.findall(r"'([^']+)'", sentence) if kind in {"enum", "literal_error"} else []
    if len(allowed) > 1 and isinstance(detail["input"], str):
        return sentence + suggest(detail["input"].lower(), allowed)
    return sentence
