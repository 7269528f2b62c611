"""Who keeps the key that wraps the data keys: a file of this machine, or AWS KMS."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from luntrex_proxy.core.listening import is_loopback_host
from luntrex_proxy.settings.section import Section, fault
from luntrex_proxy.settings.upstreams import AbsolutePath
from luntrex_proxy.settings.urls import HttpUrl, host_of

_REGION = re.compile(r"[a-z]{2,4}(-[a-z]{2,12}){1,3}-[0-9]{1,2}")
_KEY_ID = re.compile(
    r"(arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):[0-9]{12}:)?(key|alias)/[A-Za-z0-9/_-]+|[A-Za-z0-9-]+"
)


def _check_region(region: str) -> str:
    if not _REGION.fullmatch(region):
        raise fault("must be a region of AWS such as eu-central-1")
    return region


def _check_key_id(key_id: str) -> str:
    if not _KEY_ID.fullmatch(key_id):
        raise fault("must be a KMS key's id, its ARN, or alias/NAME")
    return key_id


def _check_endpoint(url: str) -> str:
    if not url.startswith("https://") and not is_loopback_host(host_of(url)):
        raise fault("must start with https://: data keys cross the network")
    return url


class Kms(Section):
    """A key of AWS KMS. Credentials are AWS's usual ones: variables, files, or the machine's role."""

    key_id: Annotated[str, AfterValidator(_check_key_id)] | None = Field(
        None, description="The key: its id, ARN or alias/NAME. null: KMS is not used."
    )
    region: Annotated[str, AfterValidator(_check_region)] | None = Field(
        None, description="Its region. null: the one in its ARN."
    )
    endpoint: Annotated[HttpUrl, AfterValidator(_check_endpoint)] | None = Field(
        None, description="The URL KMS is reached at, such as a VPC endpoint. null: the region's own."
    )
    ca_file: AbsolutePath | None = Field(
        None, description="PEM file with the authorities to trust there instead of the system's."
    )

    @property
    def home_region(self) -> str:
        """The region of the key."""
        return self.region or region_of(self.key_id or "")


class Sealing(Section):
    """How secrets in the database are encrypted (`secrets set`, api_key: {sealed: NAME})."""

    key_file: AbsolutePath | None = Field(
        None,
        description="The file of 32 bytes that wraps the data keys, such as a systemd credential. null: wrapping.key "
        "in the state directory, made at first use. With kms it only opens what it wrapped before.",
    )
    kms: Kms = Field(Kms(), description="A key of AWS KMS that wraps the data keys and never leaves KMS.")


def region_of(key_id: str) -> str:
    """The region in an ARN; "" when there is none."""
    found = _KEY_ID.fullmatch(key_id)
    return (found["region"] or "") if found else ""
