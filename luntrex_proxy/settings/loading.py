"""From all layers to one checked `Settings`: defaults, then the file (or provider keys), then LUNTREX_ variables.

    load(path, environ) -> Loaded(settings, origins, file, from_environment)

Everything wrong is reported at once, as `file:line:column: key: message` or `VARIABLE: message`.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from luntrex_proxy.settings.attributes import FILLED, find_known
from luntrex_proxy.settings.complaints import Complaint, explain, placed_lines
from luntrex_proxy.settings.contradictions import contradictions
from luntrex_proxy.settings.documents import MAX_FILE_BYTES, Document, parse_document
from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.overrides import Override, apply_overrides, read_overrides
from luntrex_proxy.settings.providers import settings_from_keys
from luntrex_proxy.settings.secrets import Surroundings
from luntrex_proxy.settings.section import Loc, show_loc
from luntrex_proxy.settings.security import shortfalls
from luntrex_proxy.settings.upstreams import Retention

DEFAULT_FILE = Path("/etc/luntrex-proxy/luntrex-proxy.yaml")
FILE_VARIABLE = "LUNTREX_CONFIG"

NOTHING_TO_SERVE = (
    f"There is nothing to serve: set OPENAI_API_KEY, ANTHROPIC_API_KEY or another provider's key, or write "
    f"{DEFAULT_FILE} (or name a file with --config), or try `luntrex-proxy serve --demo`, which needs neither."
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings and where they came from."""

    settings: Settings
    origins: Mapping[str, str]  # "gateway.listen" -> "default", "file:line" or "environment VARIABLE"
    file: Path | None
    from_environment: bool  # no file: upstreams were made of provider keys, so serve makes an account and a key


@dataclass(slots=True)
class _Layers:
    """Raw data and where each part of it came from, while loading."""

    file: Path | None = None
    document: Document = field(default_factory=Document)
    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Loc, str] = field(default_factory=dict)
    overrides: list[Override] = field(default_factory=list)

    def variable_of(self, loc: Loc) -> str:
        """The variable that set `loc` or the part it is in; "" when the file or a default did."""
        return next((self.variables[part] for part in _upwards(loc) if part in self.variables), "")


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ, *, serving: bool = False) -> Loaded:
    """Read the configuration. `serving`: all secrets and ca_files are readable, and there is something to serve."""
    layers = _collect(path, environ)
    settings, problems = _validate(layers, Surroundings(environ, strict=serving))
    if serving and not layers.data.get("upstreams") and not layers.document.faults:
        if layers.file is None:
            raise ConfigError([*_report(layers, problems), NOTHING_TO_SERVE])
        problems.append(Complaint(("upstreams",), "names no upstream, so there is nothing to serve"))
    if serving and settings is not None and settings.security.policy == "strict":
        problems += [
            Complaint(found.loc, f"{found.remedy} (security.policy: strict)") for found in shortfalls(settings)
        ]
    lines = _report(layers, problems)
    if lines or settings is None:
        raise ConfigError(lines)
    return Loaded(
        settings=settings,
        origins=dict(_origins(layers, settings, ())),
        file=layers.file,
        from_environment=layers.file is None and bool(settings.upstreams),
    )


def _collect(path: Path | None, environ: Mapping[str, str]) -> _Layers:
    layers = _Layers()
    found = _read_file(path, environ)
    if found:
        layers.file, text = found
        layers.document = parse_document(text)
        # `gateway:` with all its lines commented out is an empty section.
        layers.data = {key: value for key, value in layers.document.data.items() if value is not None}
    else:
        layers.data, layers.variables = settings_from_keys(environ)
    layers.overrides = list(read_overrides(environ))
    apply_overrides(layers.data, layers.overrides)
    layers.variables |= {override.loc: override.variable for override in layers.overrides if not override.problem}
    return layers


def read_document(file: Path) -> Document:
    """A YAML file that need not be one of ours. Raises ConfigError: it can't be read, or is no YAML."""
    document = parse_document(_read_text(file))
    if document.faults:
        raise ConfigError(placed_lines(file, document, ()))
    return document


def _read_file(path: Path | None, environ: Mapping[str, str]) -> tuple[Path, str] | None:
    named = path or (Path(environ[FILE_VARIABLE]) if environ.get(FILE_VARIABLE) else None)
    file = named or DEFAULT_FILE
    return None if named is None and _is_absent(file) else (file, _read_text(file))


def _is_absent(file: Path) -> bool:
    try:
        return not file.exists()
    except OSError:
        return False  # nobody can tell: reading it will say why


def _read_text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_FILE_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError([f"{file}: there is no such file"]) from None
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read ({os.strerror(error.errno or 0)})"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{file}: is not UTF-8 text"]) from None
    if len(raw) > MAX_FILE_BYTES:
        raise ConfigError([f"{file}: is larger than {MAX_FILE_BYTES} bytes"])
    return text


def _validate(layers: _Layers, surroundings: Surroundings) -> tuple[Settings | None, list[Complaint]]:
    problems = [Complaint(loc, sentence) for loc, sentence in contradictions(layers.data)]
    try:
        return Settings.model_validate(layers.data, context=surroundings), problems
    except ValidationError as error:
        problems += explain(error)
        return None, problems


def _report(layers: _Layers, problems: list[Complaint]) -> list[str]:
    """All lines: variables first, then the file from top to bottom."""
    lines = [f"{override.variable}: {override.problem}" for override in layers.overrides if override.problem]
    in_file = []
    for problem in problems:
        variable = layers.variable_of(problem.loc)
        if variable:
            lines.append(f"{variable}: {problem.sentence}")
        else:
            in_file.append(problem)
    return lines + placed_lines(layers.file, layers.document, in_file)


def _origins(layers: _Layers, value: object, loc: Loc) -> Iterator[tuple[str, str]]:
    """Each key and the layer that set it. A list of plain values counts as one key, and so does a retention."""
    if isinstance(value, BaseModel) and not isinstance(value, Retention):
        for name in type(value).model_fields:
            yield from _origins(layers, getattr(value, name), (*loc, name))
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        for index, item in enumerate(value):
            yield from _origins(layers, item, (*loc, index))
    else:
        yield show_loc(loc), _origin(layers, loc)


def _origin(layers: _Layers, loc: Loc) -> str:
    variable = layers.variable_of(loc)
    if variable and _is_given(layers.data, loc):
        return f"environment {variable}"
    place = layers.document.values.get(loc)
    if place:
        return f"{layers.file}:{place[0]}"
    if loc[0] == "upstreams" and loc[-1] in FILLED:
        known = find_known(layers.data["upstreams"][loc[1]].get("base_url"))
        if known is not None and loc[-1] in known.values:
            return known.origin
    return "default"


def _is_given(data: object, loc: Loc) -> bool:
    """Whether raw data holds something at `loc`; what stands inside a plain value counts as given."""
    for part in loc:
        if isinstance(data, dict) and isinstance(part, str):
            if part not in data:
                return False
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int):
            data = data[part]
        else:
            return True
    return True


def _upwards(loc: Loc) -> Iterator[Loc]:
    for depth in range(len(loc), -1, -1):
        yield loc[:depth]
