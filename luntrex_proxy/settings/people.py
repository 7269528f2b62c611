"""How people reach the console, and how mail reaches people."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Section, fault
from luntrex_proxy.settings.upstreams import AbsolutePath
from luntrex_proxy.settings.urls import HttpUrl

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_ADDRESS = re.compile(r"[^@\s<>\"(),:;\\]{1,64}@[A-Za-z0-9.-]{1,255}")


def _check_host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise fault("must be a host name or an address, without a port")
    return host


def _check_address(address: str) -> str:
    if not _ADDRESS.fullmatch(address):
        raise fault("must be a mail address such as proxy@example.com")
    return address


MailAddress = Annotated[str, AfterValidator(_check_address)]


class Console(Section):
    """The pages, and who may come in."""

    public_url: HttpUrl | None = Field(
        None,
        description="The URL people open the console at, for links. null: the first listener of the control plane.",
    )
    sign_up: Literal["closed", "invite", "open"] = Field(
        "invite",
        description="Who may become a new person here. closed: whom the operator adds; invite: whom an account's admin "
        "invites as well; open: everybody (needs mail).",
    )
    blocked_passwords_file: AbsolutePath | None = Field(
        None, description="A text file of passwords that nobody may choose, one a line, besides the shipped list."
    )


class Mail(Section):
    """How mail is sent."""

    host: Annotated[str, AfterValidator(_check_host)] | None = Field(
        None, description="The SMTP server. null: no mail is sent; links are shown to who may hand them on."
    )
    port: Annotated[int, Field(strict=True, ge=1, le=65_535)] = Field(587, description="Its port.")
    security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls, tls (from the first byte, mostly port 465), or none (a loopback host only)."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the authorities to trust instead of the system's."
    )
    user: str | None = Field(None, description="User name at the server. null: without signing in.")
    password: Secret | None = Field(None, description="The user's password.")
    sender: MailAddress | None = Field(None, description="The address that mail comes from. Needed with host.")

    @field_validator("password")
    @classmethod
    def _is_at_hand(cls, password: Secret | None) -> Secret | None:
        if password and password.sealed_name:
            raise fault("cannot be sealed in the database; use a file, a credential or the environment")
        return password
