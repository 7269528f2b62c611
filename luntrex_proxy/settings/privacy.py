"""The section `privacy`: whom people write to about their data, and how long they may think about an erasure."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from luntrex_proxy.core.listening import parse_listen
from luntrex_proxy.settings.section import Section, fault

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_NO_REPLY = re.compile(r"(?i)no[-_.]?reply|do[-_.]?not[-_.]?reply")


def _check_contact(contact: str) -> str:
    if not re.fullmatch(r"[^@\s]{1,64}@[^@\s]{1,255}|https://[^\s]{1,500}", contact):
        raise fault("must be a mail address, or the https URL of a form")
    return contact


class Privacy(Section):
    """Rights of people."""

    contact: Annotated[str, AfterValidator(_check_contact)] | None = Field(
        None, description="Mail address, or https URL of a form, that people ask about their data; somebody reads it."
    )
    erasure_grace_days: Annotated[int, Field(strict=True, ge=0, le=30)] = Field(
        7, description="Days in which a person can withdraw the erasure it asked for."
    )

    @property
    def nobody_reads(self) -> bool:
        """Whether the contact looks like an address of which the mail is thrown away."""
        return self.contact is not None and _NO_REPLY.search(self.contact) is not None


def missing_contact(settings: "Settings") -> str | None:
    """Why others than this machine's own people can come in, when nobody is named whom they could ask; None: well."""
    if settings.privacy.contact is not None:
        return None
    listens = (*settings.gateway.listen, *settings.control.listen)
    ways = (
        (settings.mail.host is not None, "mail.host is set"),
        (settings.console.public_url is not None, "console.public_url is set"),
        (
            not all(parse_listen(place).is_loopback for place in listens),
            "a listener can be reached from other machines",
        ),
    )
    return next((why for there, why in ways if there), None)


def contact_warnings(settings: "Settings") -> Iterator[str]:
    """What to say about the contact at the start and in `doctor`."""
    if settings.privacy.nobody_reads:
        yield "privacy.contact looks like an address that nobody reads: people have a right to an answer from there."
    if settings.privacy.contact is None:
        yield "privacy.contact is not set: nobody is named whom people can ask about their data."
