"""The privacy policy that ships with the program: its words, their version, and the sentences they are made of."""

import functools
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

VERSION: Final = "1"
_UPDATED: Final = re.compile(r"Last updated: (\d{4}-\d{2}-\d{2})\.")
_HEADING: Final = re.compile(r"\d+\. .*[^.]")
# A sentence ends with a full stop, a space and a capital letter; "e.g." is none.
_BETWEEN: Final = re.compile(r"(?<=\.) (?=[A-Z])")


@dataclass(frozen=True, slots=True)
class PolicyText:
    """Headings with their paragraphs; the first one has no heading."""

    version: str
    updated: str
    parts: tuple[tuple[str, tuple[str, ...]], ...]


@functools.cache
def load() -> PolicyText:
    """The text as it was shipped."""
    lines = files("luntrex_proxy").joinpath("privacy-policy.txt").read_text(encoding="utf-8").splitlines()
    parts: list[tuple[str, list[str]]] = [("", [])]
    updated = ""
    for line in filter(None, map(str.strip, lines)):
        if found := _UPDATED.fullmatch(line):
            updated = found[1]
        elif _HEADING.fullmatch(line):
            parts.append((line, []))
        else:
            parts[-1][1].append(line)
    return PolicyText(VERSION, updated, tuple((heading, tuple(paragraphs)) for heading, paragraphs in parts))


def sentences() -> list[str]:
    """Every sentence of it, without headings and the day."""
    return [
        sentence for _, paragraphs in load().parts for paragraph in paragraphs for sentence in _BETWEEN.split(paragraph)
    ]
