"""What addresses and names of people look like, as pure functions."""

import re
import unicodedata
from typing import Final

NAME_CHARACTERS_MAX: Final = 200
ADDRESS_RULE: Final = "Give a mail address such as ada@example.org, in ASCII."
NAME_RULE: Final = f"A name has at most {NAME_CHARACTERS_MAX} characters, on one line."
# What SMTP takes without quoting; a domain in another script has its xn-- form.
_ADDRESS: Final = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?")


def read_address(text: str) -> str | None:
    """A mail address as it is stored, in lower case; None: it is none."""
    address = text.strip().lower()
    local, _, domain = address.partition("@")
    if not text.isascii() or not _ADDRESS.fullmatch(address) or len(address) > 254:
        return None
    if ".." in address or local.startswith(".") or local.endswith(".") or ("." not in domain and domain != "localhost"):
        return None
    return address


def read_name(text: str) -> str | None:
    """What a person is called, as it is stored; None: it is no name. Nothing is one."""
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if len(name) > NAME_CHARACTERS_MAX or any(
        unicodedata.category(character) in ("Cc", "Cs", "Zl") for character in name
    ):
        return None
    return name
