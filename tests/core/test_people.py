"""Addresses and names as they are stored."""

import pytest

from luntrex_proxy.core.people import read_address, read_name


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Ada@Example.ORG ", "ada@example.org"),
        ("a+b.c_d-e@sub.example.co.uk", "a+b.c_d-e@sub.example.co.uk"),
        ("root@localhost", "root@localhost"),
        ("", None),
        ("ada", None),
        ("ada@", None),
        ("@example.org", None),
        ("ada@example", None),
        ("a@b@example.org", None),
        ("a..b@example.org", None),
        (".a@example.org", None),
        ("a@-example.org", None),
        ("a@example..org", None),
        ("a b@example.org", None),
        ("a@example.org\nBcc: eve@example.org", None),
        ("a@example.org, eve@example.org", None),
        ('"a"@example.org', None),
        ("ä@example.org", None),
        ("ada@exämple.org", None),
        ("\u212a@example.org", None),  # the Kelvin sign is a k in lower case
        ("x" * 65 + "@example.org", None),
        ("x@" + "y" * 252 + ".org", None),
    ],
)
def test_an_address_is_one_that_mail_takes(text: str, address: str | None) -> None:
    """In one form; nothing that could become a second header or receiver."""
    assert read_address(text) == address


def test_a_name_is_one_line() -> None:
    """Of any letters; nothing at all is fine."""
    assert read_name("  Ada \u00a0 Lovelace ") == "Ada Lovelace"
    assert read_name("") == ""
    assert read_name("x" * 200) == "x" * 200
    assert read_name("\u05e9\u05dc\u05d5\u05dd \u06cc\u200c\u0627") == "\u05e9\u05dc\u05d5\u05dd \u06cc\u200c\u0627"
    for wrong in ("x" * 201, "a\x00b", "a\x1bb", "\udcff"):
        assert read_name(wrong) is None


@pytest.mark.parametrize("name", ["\u202egro.elpmaxe@ada", "Ada\u2066", "\u200b", "\u200d\ufe0f"])
def test_a_name_can_be_seen_as_it_is(name: str) -> None:
    """Nothing that turns what stands beside it around, and something of it shows."""
    assert read_name(name) is None
