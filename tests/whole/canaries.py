"""Canaries: unique words planted in everything that is said, and a search for them that no encoding hides from.

Every canary begins and ends with the run's mark, so that a piece cut off at either side still shows one. The search
looks for the mark alone, in every form in which a careless program might have written it down.
"""

import base64
import contextlib
import os
import re
import secrets
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tests.whole.daemon import Daemon, get

SHOWN_BYTES = 60


@dataclass(frozen=True)
class Hit:
    """A place where a canary was found."""

    where: str
    form: str
    context: str


class Canaries:
    """Makes canaries and finds them again."""

    def __init__(self) -> None:
        self.mark = "zq" + secrets.token_hex(6)
        self.planted: set[str] = set()
        self._forms = dict(_forms(self.mark.encode()))

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
        for match in re.finditer(rb"\x78[\x01\x5e\x9c\xda]|\x1f\x8b\x08", data):
            with contextlib.suppress(zlib.error):
                inner = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(data[match.start() :], 1 << 20)
                hits += self.search(f"{where} (compressed)", inner)
        return hits

    def search_files(self, *roots: Path) -> list[Hit]:
        """Every file below these directories, PostgreSQL's own files and journals among them, and every file name."""
        hits = []
        for path in (path for root in roots for path in _files(root)):
            hits += self.search(f"name of {path}", os.fsencode(path))
            with contextlib.suppress(FileNotFoundError):  # PostgreSQL removed it meanwhile
                data = path.read_bytes()
                deep = "/postgres/" not in str(path)  # its pages hold too many bytes that look like zlib
                hits += self.search_deeply(str(path), data) if deep else self.search(str(path), data)
        return hits

    def search_tables(self, daemon: Daemon) -> list[Hit]:
        """Every row of every table as text, PostgreSQL's own views of what it is doing among them."""
        hits = []
        for name in _tables(daemon):
            rows = daemon.query(f"SELECT t::text AS row FROM {name} AS t")
            text = "\n".join(row["row"] or "" for row in rows)
            hits += self.search(f"table {name}", text.encode())
        return hits

    def search_surfaces(self, daemon: Daemon) -> list[Hit]:
        """What the daemon shows about itself: metrics, and every reading verb."""
        hits = self.search("metrics", get(daemon.control_port, "/metrics")[1])
        for verb in (
            ("usage", "--json"),
            ("usage", "--requests", "--limit", "10000", "--json"),
            ("keys", "list", "--json"),
            ("accounts", "list", "--json"),
            ("ledger", "status", "--json"),
            ("config", "show"),
        ):
            done = daemon.cli(*verb)
            hits += self.search(f"verb {' '.join(verb)}", (done.stdout + done.stderr).encode())
        return hits


def _files(root: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(root):
        for name in names:
            path = Path(directory, name)
            if path.is_file() and not path.is_symlink():
                yield path


def _tables(daemon: Daemon) -> list[str]:
    found = daemon.query(
        "SELECT format('%I.%I', schemaname, relname) AS name FROM pg_stat_all_tables "
        "WHERE schemaname <> 'information_schema' AND schemaname NOT LIKE 'pg_toast%'"
    )
    return [row["name"] for row in found] + ["pg_stat_activity", "pg_stats", "pg_prepared_statements"]


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
