"""What addresses and names of people look like, as pure functions."""

import re
import unicodedata
from typing import Final

NAME_CHARACTERS_MAX: Final = 200
ADDRESS_RULE: Final = "Give a mail address such as ada@example.org, in ASCII."
NAME_RULE: Final = f"A name has at most {NAME_CHARACTERS_MAX} characters that can be seen, on one line."
# What SMTP takes without quoting; a domain in another script has its xn-- form.
_ADDRESS: Final = re.compile(r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,252}[a-z0-9])?")
_NO_LETTERS: Final = ("Cc", "Cs", "Zl")
# What turns around words that stand beside it; letters that are written from the right need none of them.
_TURNS: Final = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


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
        unicodedata.category(each) in _NO_LETTERS or unicodedata.bidirectional(each) in _TURNS for each in name
    ):
        return None
    return None if name and all(unicodedata.category(each)[0] in "CMZ" for each in name) else name
