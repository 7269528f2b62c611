"""A value that must never be shown, and the five ways to write one.

    literal text | {env: NAME} | {file: /path} | {credential: name} | {sealed: name}  ->  Secret

A secret that cannot be read is an error for `serve` and `config check`. Other verbs often run without the daemon's
environment, so for them it becomes a `Secret` that says why only when somebody needs it.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from luntrex_proxy.settings.errors import ConfigError
from luntrex_proxy.settings.section import fault

_FORMS = "must be text, {env: NAME}, {file: /path}, {credential: name} or {sealed: name}"
_MAX_FILE_BYTES: Final = 65_536
# Somebody may write the secret itself where its variable's name belongs; then the sentence must not repeat it.
_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_CREDENTIAL_NAME = re.compile(r"[A-Za-z0-9._-]{1,255}")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Validation context: where secrets are read from, and whether an unreadable file or secret is an error at once."""

    environ: Mapping[str, str]
    strict: bool = True


class Secret:
    """A secret. `reveal` is the only way to its value; repr, str, JSON and error texts show `written` at most."""

    __slots__ = ("_problem", "_value", "sealed_name", "written")

    def __init__(
        self, value: str, written: "str | dict[str, str]" = "***", problem: str = "", sealed_name: str = ""
    ) -> None:
        self._value = value
        self._problem = problem
        self.sealed_name = sealed_name  # in the database, where only a daemon can open it; "" when it is not there
        self.written = written  # what `config show` prints: "***", or the reference as it stands in the file

    def reveal(self) -> str:
        """The value. Raises ConfigError when it could not be read."""
        if self._problem:
            raise ConfigError([self._problem])
        return self._value

    def is_readable(self) -> bool:
        """Whether `reveal` will return."""
        return not self._problem

    def __repr__(self) -> str:
        return "Secret(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._value, self.written) == (other._value, other.written)

    def __hash__(self) -> int:
        return hash(self._value)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _validate,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda secret: secret.written),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, _handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        forms: list[JsonSchemaValue] = [{"type": "string"}]
        for key in ("env", "file", "credential", "sealed"):
            form = {"type": "object", "properties": {key: {"type": "string"}}, "required": [key]}
            forms.append({**form, "additionalProperties": False})
        return {"anyOf": forms}


def _validate(value: object, info: core_schema.ValidationInfo) -> Secret:
    around = info.context if isinstance(info.context, Surroundings) else Surroundings(os.environ)
    if isinstance(value, Secret):
        return value
    if isinstance(value, str):
        if not value:
            raise fault("is empty; leave it out or write null when there is no secret")
        return Secret(value)
    if not isinstance(value, dict) or len(value) != 1:
        raise fault(_FORMS)
    match value:
        case {"env": str(name)}:
            text, problem = _from_environment(name, around.environ)
        case {"file": str(name)}:
            text, problem = _from_file(name)
        case {"credential": str(name)}:
            text, problem = _from_credential(name, around.environ)
        case {"sealed": str(name)}:
            if not _CREDENTIAL_NAME.fullmatch(name):
                raise fault("sealed must be the name of a secret: letters, digits, '.', '_' and '-'")
            return Secret("", value, "is sealed in the database: only an upstream's api_key can be", name)
        case _:
            raise fault(_FORMS)
    if problem and around.strict:
        raise fault(problem)
    return Secret(text, value, problem)


def _from_environment(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    if not _ENV_NAME.fullmatch(name):
        raise fault("env must be the name of an environment variable: capitals, digits and _")
    text = environ.get(name, "").strip()
    return text, "" if text else f"the environment variable {name} is not set or empty"


def _from_file(name: str) -> tuple[str, str]:
    if not name.startswith("/"):
        raise fault("file must be an absolute path")
    return _read(Path(name), "the file")


def _from_credential(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    if not _CREDENTIAL_NAME.fullmatch(name) or name in {".", ".."}:
        raise fault("credential must be a plain name: letters, digits, '.', '_' and '-'")
    directory = environ.get("CREDENTIALS_DIRECTORY")
    if not directory:
        return "", "$CREDENTIALS_DIRECTORY is not set: only a systemd unit with LoadCredential= has credentials"
    return _read(Path(directory) / name, "the credential")


def _read(path: Path, what: str) -> tuple[str, str]:
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
        text = raw.decode().strip()
    except FileNotFoundError:
        return "", f"{what} is not there"
    except OSError as error:
        return "", f"{what} cannot be read ({os.strerror(error.errno or 0)})"
    except ValueError:
        return "", f"{what} is not UTF-8 text"
    if len(raw) > _MAX_FILE_BYTES:
        return "", f"{what} is larger than {_MAX_FILE_BYTES} bytes"
    return text, "" if text else f"{what} is empty"
