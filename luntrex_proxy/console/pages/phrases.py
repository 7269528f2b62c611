"""Words of rules, configuration and records as people read them: filters of the templates. Others stay."""

import re
from collections.abc import Callable
from typing import Any, Final

_NOT_STATED: Final = "not stated"
_KEPT: Final = {
    "none": "nothing",
    "abuse_monitoring": "for abuse monitoring",
    "application_state": "as state of applications",
    "unknown": "not known",
}
_TRAINING: Final = {"unless_opted_out": "unless somebody opted out", "unknown": "not known"}
_RIGHTS: Final = {
    "access": "report",
    "export": "copy",
    "correct": "correction",
    "restrict": "restriction",
    "object": "objection",
    "erase": "erasure",
}
_STATES: Final = {
    "unconfirmed": "not confirmed yet",
    "open": "to be answered",
    "waiting": "waits to be carried out",
    "held": "held back",
    "lapsed": "never confirmed",
}
_ITEM: Final = re.compile(r"(\w+)=([^;]*)")
_YEAR_DAYS: Final = 365.25


def kept(word: str) -> str:
    """What an upstream or sub-processor keeps, such as abuse_monitoring:30."""
    kind, _, days = word.partition(":")
    words = _KEPT.get(kind, kind.replace("_", " ")) or _NOT_STATED
    return f"{words}, {days} days at most" if days else words


def training(word: str) -> str:
    """Whether somebody trains on what they get."""
    return _TRAINING.get(word, word) or _NOT_STATED


def policy(text: str) -> str:
    """What upstreams may do with requests, from the words of the configuration; "" admits anything."""
    said = dict(_ITEM.findall(text))
    parts = []
    if "region" in said:
        parts.append(f"processed only in {' or '.join(said['region'].strip().split(','))}")
    if "retention" in said:
        words = kept(said["retention"].strip())
        parts.append("not kept" if words == "nothing" else f"kept {words}")
    if "training" in said:
        word = said["training"].strip()
        parts.append("never trained on" if word == "never" else f"trained on: {training(word)}")
    return "; ".join(parts) or "anything"


def right(word: str) -> str:
    """What somebody asked for by right, as a thing."""
    return _RIGHTS.get(word, word)


def standing(word: str) -> str:
    """How a request by right stands."""
    return _STATES.get(word, word)


def period(days: int) -> str:
    """A long time in days, and roughly in years from two on."""
    years = round(days / _YEAR_DAYS)
    words = f"{days:,} day{'' if days == 1 else 's'}"
    return f"{words} ({years} years)" if years > 1 else words


def kept_for(words: str) -> str:
    """How long something is kept: a number of days as such."""
    number, _, rest = words.partition(" ")
    return period(int(number)) if number.isdigit() and rest in ("day", "days") else words


FILTERS: Final[dict[str, Callable[..., Any]]] = {
    "kept": kept,
    "kept_for": kept_for,
    "training": training,
    "policy": policy,
    "right": right,
    "standing": standing,
    "period": period,
}
