"""Canaries: unique words planted in everything that is said, and where a daemon of the tests is searched for them."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from luntrex_proxy.core.canaries import Hit, Marks
from tests.whole.daemon import Daemon, get

__all__ = ["Canaries", "Hit"]


class Canaries(Marks):
    """Makes canaries and finds them again, in everything a daemon of the tests keeps."""

    def __init__(self) -> None:
        super().__init__("zq" + secrets.token_hex(6))

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
