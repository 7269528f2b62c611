"""Environment variables over the file: `LUNTREX_GATEWAY__LIMITS__BODY_BYTES=1048576` sets gateway.limits.body_bytes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from luntrex_proxy.settings.complaints import unknown_key
from luntrex_proxy.settings.documents import parse_document
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Loc, fields_at, model_in

PREFIX = "LUNTREX_"
SEPARATOR = "__"


@dataclass(frozen=True, slots=True)
class Override:
    """One variable: the place it sets and the value, or what is wrong with it."""

    variable: str
    loc: Loc
    value: Any = None
    problem: str = ""


def read_overrides(environ: Mapping[str, str]) -> Iterator[Override]:
    """Every variable that names a key. An empty one counts as not set."""
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and SEPARATOR in variable and environ[variable]:
            yield _read(variable, environ[variable])


def apply_overrides(data: dict[str, Any], overrides: list[Override]) -> None:
    """Write the good ones into `data`."""
    for override in overrides:
        if override.problem:
            continue
        here = data
        for part in override.loc[:-1]:
            below = here.get(str(part))
            if not isinstance(below, dict):
                below = here[str(part)] = {}
            here = below
        here[str(override.loc[-1])] = override.value


def _read(variable: str, text: str) -> Override:
    loc: Loc = tuple(part.lower() for part in variable.removeprefix(PREFIX).split(SEPARATOR))
    for depth, part in enumerate(loc):
        fields = fields_at(Settings, loc[:depth])
        if part not in fields:
            return Override(variable, loc, problem=unknown_key(str(part), fields))
        if part in {"upstreams", "models"}:
            return Override(variable, loc, problem="lists of mappings can be set only in the file")
    annotation = fields[str(loc[-1])].annotation
    if model_in(annotation):
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
