"""Words that nothing else contains, and a search for them that no encoding hides from.

A canary begins and ends with its check's mark, so that a piece cut off at either side still shows one. The search looks
for the mark alone, in every form in which a careless program might have written it down.
"""

import base64
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

SHOWN_BYTES: Final = 60
_INNER_BYTES_MAX: Final = 1 << 20
_COMPRESSED: Final = re.compile(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08")


@dataclass(frozen=True, slots=True)
class Hit:
    """A place where a mark was found."""

    where: str
    form: str
    context: str


class Marks:
    """Makes canaries around one mark (lower-case letters and digits), and finds them again."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.planted: set[str] = set()
        self._forms = dict(_forms(mark.encode()))

    def __call__(self, label: str) -> str:
        """A canary for one kind of content; letters and digits only, so that it fits everywhere."""
        self.planted.add(label)
        return f"{self.mark}{label}{self.mark}"

    def search(self, where: str, data: bytes) -> list[Hit]:
        """Every form of the mark in these bytes, in any case."""
        low = data.lower()
        hits = []
        for name, form in self._forms.items():
            at = low.find(form)
            if at >= 0:
                context = data[max(0, at - SHOWN_BYTES) : at + SHOWN_BYTES]
                hits.append(Hit(where, name, context.decode("latin-1")))
        return hits

    def search_deeply(self, where: str, data: bytes) -> list[Hit]:
        """The same, also inside pieces compressed by zlib or gzip."""
        hits = self.search(where, data)
        for match in _COMPRESSED.finditer(data):
            try:
                inner = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[match.start() :], _INNER_BYTES_MAX)
            except zlib.error:
                continue
            hits += self.search(f"{where} (compressed)", inner)
        return hits


def _forms(mark: bytes) -> Iterator[tuple[str, bytes]]:
    """The mark in every form, in lower case, because the data is searched in lower case."""
    text = mark.decode()
    yield "plain", mark
    yield "hex", mark.hex().encode()
    yield "utf-16-le", text.encode("utf-16-le")
    yield "utf-16-be", text.encode("utf-16-be")
    yield "utf-32-le", text.encode("utf-32-le")
    yield "percent", "".join(f"%{byte:02x}" for byte in mark).encode()
    yield "twice percent", quote("".join(f"%{byte:02x}" for byte in mark)).lower().encode()
    yield "json escapes", "".join(f"\\u{byte:04x}" for byte in mark).encode()
    yield "python escapes", "".join(f"\\x{byte:02x}" for byte in mark).encode()
    yield "octal escapes", "".join(f"\\{byte:03o}" for byte in mark).encode()
    yield "decimal list", ", ".join(str(byte) for byte in mark).encode()
    yield "html", "".join(f"&#{byte};" for byte in mark).encode()
    yield "reversed", mark[::-1]
    for shift in range(3):
        # Base64 depends on where in the text the mark begins; the first and last characters depend on neighbours.
        for name, encode in (("base64", base64.b64encode), ("base64url", base64.urlsafe_b64encode)):
            encoded = encode(b"\x00" * shift + mark + b"\x00" * 3)
            inner = encoded[(shift * 8 + 5) // 6 : (shift + len(mark)) * 8 // 6]
            yield f"{name}+{shift}", inner.lower()
    for shift in range(5):
        encoded = base64.b32encode(b"\x00" * shift + mark + b"\x00" * 5)
        yield f"base32+{shift}", encoded[(shift * 8 + 4) // 5 : (shift + len(mark)) * 8 // 5].lower()
