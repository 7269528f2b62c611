"""When people are alerted to attempts with wrong keys, and where to."""

import base64
import binascii
from typing import Annotated, Final

from pydantic import AfterValidator, Field, field_validator

from luntrex_proxy.core.listening import is_loopback_host
from luntrex_proxy.settings.people import MailAddress
from luntrex_proxy.settings.secrets import Secret
from luntrex_proxy.settings.section import Count, Section, fault
from luntrex_proxy.settings.upstreams import AbsolutePath
from luntrex_proxy.settings.urls import HttpUrl, host_of

_PREFIX: Final = "whsec_"
_SECRET_BYTES_MIN: Final = 24
_SECRET_BYTES_MAX: Final = 64


def webhook_key(secret: str) -> bytes:
    """The key that a webhook's secret stands for; b"" when it is none."""
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return key if secret.startswith(_PREFIX) and _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX else b""


def _check_url(url: str) -> str:
    if not url.startswith("https://") and not is_loopback_host(host_of(url)):
        raise fault("must start with https://: other machines would read it")
    return url


class Webhook(Section):
    """A program of the operator's that takes alerts."""

    url: Annotated[HttpUrl, AfterValidator(_check_url)] | None = Field(
        None, description="Where alerts are sent by POST; https off this machine. null: nowhere."
    )
    secret: Secret | None = Field(
        None,
        description="whsec_ and the base64 of 24 to 64 random bytes, to sign messages with. Needed with url.",
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the authorities to trust there instead of the system's."
    )

    @field_validator("secret")
    @classmethod
    def _is_a_key(cls, secret: Secret | None) -> Secret | None:
        if secret is not None and secret.is_readable() and not webhook_key(secret.reveal()):
            raise fault("must be whsec_ and the base64 of 24 to 64 random bytes")
        return secret


class Alerts(Section):
    """When people are told of attempts with wrong keys."""

    attempts_per_key: Count | None = Field(
        20, description="Refused attempts with one key's id in the window; more alert. null: never."
    )
    attempts_per_network: Count | None = Field(
        200, description="Refused attempts from one network (/24, /48) in the window; more alert. null: never."
    )
    window_minutes: Count = Field(10, description="Minutes that are looked at.")
    again_after_minutes: Count = Field(60, description="Minutes until the same key or network may alert again.")
    mail_to: tuple[MailAddress, ...] = Field(
        (),
        description="Addresses that alerts are mailed to. Owners and admins get those about their own account's keys.",
    )
    webhook: Webhook = Field(Webhook(), description="A program that takes alerts.")
