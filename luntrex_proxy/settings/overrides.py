"""Environment variables over the file: `LUNTREX_GATEWAY__LIMITS__BODY_BYTES=1048576` sets gateway.limits.body_bytes."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from luntrex_proxy.settings.complaints import unknown_key
from luntrex_proxy.settings.documents import parse_document
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Loc, fields_at, model_in

PREFIX = "LUNTREX_"
SEPARATOR = "__"
_ONLY_IN_FILE = frozenset({"upstreams", "models"})
# Read elsewhere, so never a mistyped key.
_OTHER_VARIABLES = frozenset(PREFIX + name for name in ("CONFIG", "DEBUG", "PG_BINDIR", "API_KEY"))
# A typo or two. Kubernetes sets LUNTREX_GATEWAY_PORT and the like for a service of that name: those stay ignored.
_RESEMBLANCE = 0.85


@dataclass(frozen=True, slots=True)
class Override:
    """One variable: the place it sets and the value, or what is wrong with it."""

    variable: str
    loc: Loc
    value: Any = None
    problem: str = ""


def read_overrides(environ: Mapping[str, str]) -> Iterator[Override]:
    """Every variable that names a key or nearly does. An empty one counts as not set."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or not environ[variable] or variable in _OTHER_VARIABLES:
            continue
        if SEPARATOR in variable:
            yield _read(variable, environ[variable])
        elif meant := _nearest(variable):
            yield Override(variable, (), problem=f"unknown key (did you mean {meant!r}?)")


def apply_overrides(data: dict[str, Any], overrides: list[Override]) -> None:
    """Write the good ones into `data`, but not over a section that is no mapping: that mistake is reported."""
    for override in overrides:
        if override.problem:
            continue
        here: Any = data
        for part in override.loc[:-1]:
            here = here.setdefault(part, {}) if isinstance(here, dict) else None
        if isinstance(here, dict):
            here[override.loc[-1]] = override.value


def _nearest(variable: str) -> str:
    """The variable that was meant by one with single underscores, or ""."""
    known = {name.replace(SEPARATOR, "_"): name for name in _names(Settings)}
    close = difflib.get_close_matches(variable.removeprefix(PREFIX).upper(), known, 1, _RESEMBLANCE)
    return PREFIX + known[close[0]] if close else ""


def _names(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        below = model_in(field.annotation)
        if below is None:
            yield prefix + name.upper()
        elif name not in _ONLY_IN_FILE:
            yield from _names(below, prefix + name.upper() + SEPARATOR)


def _read(variable: str, text: str) -> Override:
    loc: Loc = tuple(part.lower() for part in variable.removeprefix(PREFIX).split(SEPARATOR))
    for depth, part in enumerate(loc):
        fields = fields_at(Settings, loc[:depth])
        if part not in fields:
            return Override(variable, loc, problem=unknown_key(str(part), fields))
        if part in _ONLY_IN_FILE:
            return Override(variable, loc, problem="lists of mappings can be set only in the file")
    annotation = fields[str(loc[-1])].annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):  # a section that may be a word is none
        return Override(variable, loc, problem="is a section; set one of its keys")
    return Override(variable, loc, _value(annotation, text))


def _value(annotation: Any, text: str) -> Any:
    parts = _parts(annotation)
    if type(None) in parts and text in {"null", "~"}:
        return None
    if tuple in parts:
        return [item.strip() for item in text.split(",")]
    # Text stays as it is: a password may look like YAML. A secret may also be a reference.
    if Secret in parts and not text.startswith("{"):
        return text
    if str in parts or Path in parts:
        return text
    return parse_document(f"value: {text}").data.get("value", text)


def _parts(annotation: Any) -> set[Any]:
    found = {annotation, getattr(annotation, "__origin__", None)}
    for part in get_args(annotation):
        found |= _parts(part)
    return found
