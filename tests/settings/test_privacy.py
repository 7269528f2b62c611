"""Whom people ask about their data: needed where others come in, and somebody has to read it."""

from typing import Any

import pytest
from pydantic import ValidationError

from luntrex_proxy.settings.model import Settings
from luntrex_proxy.settings.privacy import contact_warnings, missing_contact

MAIL = {"host": "mail.example.org", "sender": "x@example.org"}


@pytest.mark.parametrize(
    ("more", "needed"),
    [
        ({}, False),
        ({"gateway": {"listen": ["unix:/run/x.sock", "[::1]:8080"]}}, False),
        ({"mail": MAIL}, True),
        ({"console": {"public_url": "https://proxy.example.org"}}, True),
        ({"gateway": {"listen": ["0.0.0.0:8080"], "tls": "terminated_by_proxy"}}, True),
        ({"control": {"listen": ["192.0.2.1:8081"], "tls": "terminated_by_proxy"}}, True),
    ],
)
def test_who_lets_others_in_names_a_contact(more: dict[str, Any], needed: bool) -> None:
    """A sidecar on loopback works without, with a warning; with a contact nothing is missing."""
    assert (missing_contact(Settings.model_validate(more)) is not None) == needed
    named = Settings.model_validate(more | {"privacy": {"contact": "privacy@example.org"}})
    assert (missing_contact(named), list(contact_warnings(named))) == (None, [])
    assert "is not set" in "".join(contact_warnings(Settings()))


@pytest.mark.parametrize("contact", ["no-reply@luntrex.com", "donotreply@x.org", "No.Reply@x.org"])
def test_an_address_that_nobody_reads_is_told(contact: str) -> None:
    """The policy's own one for example."""
    settings = Settings.model_validate({"privacy": {"contact": contact}})
    assert "nobody reads" in "".join(contact_warnings(settings))


@pytest.mark.parametrize("contact", ["", "privacy", "http://x.org/form", "a b@x.org"])
def test_what_is_no_contact_is_refused(contact: str) -> None:
    """An address, or an https form."""
    with pytest.raises(ValidationError, match="must be a mail address"):
        Settings.model_validate({"privacy": {"contact": contact}})
