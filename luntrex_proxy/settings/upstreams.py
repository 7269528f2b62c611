"""One upstream: where it is, what it speaks, the key we use there, and what it does with what it is sent."""

import os
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from luntrex_proxy.core.call import Dialect
from luntrex_proxy.core.policy import REGION, RetentionKind, Training, Traits
from luntrex_proxy.core.wire.endusers import EndUsers
from luntrex_proxy.settings.attributes import fill_in
from luntrex_proxy.settings.probes import UpstreamProbe
from luntrex_proxy.settings.secrets import Secret, Surroundings
from luntrex_proxy.settings.section import Count, Flag, Seconds, Section, fault
from luntrex_proxy.settings.urls import Endpoint, HttpUrl, parse_base_url, parse_proxy_url

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")
LUNTREX_KEY_PREFIX = "lx_"


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise fault("must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return name


def _check_region(region: str) -> str:
    region = region.lower()
    if not REGION.fullmatch(region):
        raise fault("must be 1 to 63 letters, digits, '.', '_' or '-', and begin with a letter or digit")
    return region


def _read_yes(value: object) -> object:
    return Training.YES if value is True else value  # YAML reads an unquoted yes as true


def _check_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise fault("must be an absolute path")
    return path


def _check_authorities(path: Path) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except FileNotFoundError:
        raise fault("the file is not there") from None
    except (ssl.SSLError, ValueError):  # ValueError: a name that no file can have
        raise fault("the file does not hold PEM certificates") from None
    except OSError as error:
        raise fault(f"the file cannot be read ({os.strerror(error.errno or 0)})") from None


def load_client_certificate(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Read our certificate and its key (None: in the same file). Raises OSError, SSLError, ValueError."""
    # Without a password OpenSSL would ask the terminal for an encrypted key's.
    context.load_cert_chain(certificate, key, password="")


def _check_client_certificate(certificate: Path, key: Path | None) -> None:
    try:
        load_client_certificate(ssl.create_default_context(), certificate, key)
    except FileNotFoundError:
        raise fault("the file or the one of client_key_file is not there") from None
    except (ssl.SSLError, ValueError):  # ValueError: a name that no file can have
        raise fault("the file and its key are not PEM, do not belong together, or the key has a password") from None
    except OSError as error:
        raise fault(
            f"the file or the one of client_key_file cannot be read ({os.strerror(error.errno or 0)})"
        ) from None


def wrong_api_key(key: str) -> str:
    """What is wrong with a provider's key, as the end of a sentence; nothing when it can be sent."""
    if key.startswith(LUNTREX_KEY_PREFIX):
        return "is a luntrex key (lx_...): put the provider's own key here"
    if not _HEADER_TEXT.fullmatch(key):
        return "has a space or another character that an HTTP header cannot carry"
    return ""


UpstreamName = Annotated[str, AfterValidator(_check_name)]
Region = Annotated[str, AfterValidator(_check_region)]
yes_is_a_word = BeforeValidator(_read_yes)
AbsolutePath = Annotated[Path, AfterValidator(_check_absolute)]


class Retention(Section):
    """`none`, `unknown`, or {kind: abuse_monitoring | application_state, days: N}."""

    kind: RetentionKind = Field(description="What is kept: none, abuse_monitoring, application_state or unknown.")
    days: Count | None = Field(None, description="For how many days at most. Only with the two kinds that keep.")

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _days_fit(self) -> Self:
        keeps = self.kind in {RetentionKind.ABUSE_MONITORING, RetentionKind.APPLICATION_STATE}
        if keeps and self.days is None:
            raise fault(f"needs the days as well: {{kind: {self.kind}, days: 30}}")
        if not keeps and self.days is not None:
            raise fault("days fit only the kinds abuse_monitoring and application_state")
        return self

    @model_serializer
    def _written(self) -> "str | dict[str, Any]":
        return self.kind.value if self.days is None else {"kind": self.kind.value, "days": self.days}

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(schema))
        short = {"type": "string", "enum": [RetentionKind.NONE.value, RetentionKind.UNKNOWN.value]}
        return {"anyOf": [short, full], "description": cls.__doc__ or ""}


Percent = Annotated[int, Field(strict=True, ge=1, le=100)]


class UpstreamTimeouts(Section):
    """How long to wait for an upstream."""

    connect_s: Seconds = Field(10, description="Seconds to connect, TLS handshake included.")
    first_byte_s: Seconds = Field(
        900, description="Seconds from the request to the answer's first byte. Long, because models think."
    )
    idle_s: Seconds = Field(300, description="Seconds of silence inside an answer before it counts as dead.")
    keep_alive_s: Seconds = Field(
        15,
        description="Seconds an unused connection stays open. Less than most servers' own, who would close it first.",
    )
    max_connection_age_s: Seconds = Field(
        3_600, description="Seconds after which a connection is not used again, so that changes of DNS are followed."
    )
    dns_ttl_s: Seconds = Field(
        60, description="Seconds that its addresses are remembered. When DNS fails the last ones serve on."
    )


class UpstreamHealth(Section):
    """When it is avoided. A refusal that is a client's own fault (400, 404, 422, ...) never counts."""

    failures: Count = Field(
        5, description="Failures in a row (unreachable, timeout, cut or invalid answer, 5xx) that stop requests to it."
    )
    open_s: Seconds = Field(
        5, description="Seconds until one request may try it again; doubled up to 16 times as long while that fails."
    )
    error_percent: Percent = Field(
        50, description="Failures in a hundred requests that put the model's other targets before it."
    )
    error_requests: Count = Field(20, description="Requests in a window below which error_percent says nothing.")
    window_s: Seconds = Field(30, description="Seconds in which failures are counted, and for which it comes last.")
    retry_after_cap_s: Seconds = Field(
        60, description="Seconds at most that its Retry-After puts the model's other targets before it."
    )


class Upstream(Section):
    """A provider's API, or a model server of your own."""

    name: UpstreamName = Field(description="Your name for it; appears in targets, usage and metrics.")
    dialect: Dialect = Field(description="The API it speaks: openai or anthropic.")
    base_url: HttpUrl = Field(
        description="What the dialect's SDK would take as base URL. An openai URL without a path means /v1; "
        "an anthropic URL may end in /v1 or not."
    )
    api_key: Secret | None = Field(
        None, description="The provider's key: text, {env: NAME}, {file: /path} or {credential: name}. null: none sent."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the certificate authorities to trust here instead of the system's."
    )
    client_key_file: AbsolutePath | None = Field(
        None, description="PEM file with the key of client_certificate_file, without a password. null: in that file."
    )
    client_certificate_file: AbsolutePath | None = Field(
        None, description="PEM file with the certificate to show to it. null: none is shown."
    )
    proxy: Secret | None = Field(
        None,
        description="A CONNECT proxy on the way to it: http://host:port or http://user:password@host:port, written "
        "like api_key. null: none; the environment's HTTPS_PROXY is never used.",
    )
    region: Region | None = Field(
        None, description="Where it processes data: a word of your own, which policies name. null: unknown."
    )
    retention: Retention = Field(
        Retention(kind=RetentionKind.UNKNOWN),
        description="What it keeps: none, unknown, or {kind: abuse_monitoring | application_state, days: N}.",
    )
    training: Annotated[Training, yes_is_a_word] = Field(
        Training.UNKNOWN, description="Whether it trains on what it is sent: never, unless_opted_out, yes or unknown."
    )
    end_users: EndUsers = Field(
        EndUsers.PSEUDONYMISE,
        description="What it sees of the ids that clients give their own users (user, safety_identifier, "
        "prompt_cache_key, metadata.user_id): pass, pseudonymise (a keyed hash, stable per account) or drop.",
    )
    store_false: Flag = Field(
        False,
        description="Say store: false in chat requests that leave it out, for providers that keep chats by default. "
        "What says store: true becomes false always.",
    )
    inject_usage: Flag = Field(
        True,
        description="Ask for token counts in streams (stream_options.include_usage) when the client did not. "
        "Turn off for servers that refuse the field.",
    )
    timeouts: UpstreamTimeouts = Field(UpstreamTimeouts(), description="How long to wait for it.")
    health: UpstreamHealth = Field(UpstreamHealth(), description="When it is avoided.")
    probe: UpstreamProbe | None = Field(None, description="How it is probed. null: only requests show how it is.")
    max_connections: Count = Field(2_000, description="Connections to it at the same time, busy and idle.")

    @model_validator(mode="before")
    @classmethod
    def _known_providers(cls, value: object) -> object:
        return fill_in(value) if isinstance(value, dict) else value

    @field_validator("api_key")
    @classmethod
    def _key_is_sendable(cls, key: Secret | None) -> Secret | None:
        if key is not None and key.is_readable() and (wrong := wrong_api_key(key.reveal())):
            raise fault(wrong)
        return key

    @field_validator("proxy")
    @classmethod
    def _proxy_is_reachable(cls, proxy: Secret | None) -> Secret | None:
        if proxy is not None and proxy.sealed_name:
            raise fault("cannot be sealed; only an api_key can")
        if proxy is not None and proxy.is_readable():
            parse_proxy_url(proxy.reveal())
        return proxy

    @field_validator("client_certificate_file")
    @classmethod
    def _certificate_is_readable(cls, certificate: Path | None, info: ValidationInfo) -> Path | None:
        if certificate is not None and isinstance(info.context, Surroundings) and info.context.strict:
            _check_client_certificate(certificate, info.data.get("client_key_file"))
        return certificate

    @field_validator("ca_file")
    @classmethod
    def _authorities_are_readable(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        # Only the daemon needs the file; the other verbs often run as a user who cannot read it.
        if path is not None and isinstance(info.context, Surroundings) and info.context.strict:
            _check_authorities(path)
        return path

    @property
    def traits(self) -> Traits:
        """What it does with what it is sent."""
        return Traits.of(self.region, self.retention.kind, self.retention.days, self.training)

    @property
    def endpoint(self) -> Endpoint:
        """Where its requests go."""
        return parse_base_url(self.base_url, self.dialect)
