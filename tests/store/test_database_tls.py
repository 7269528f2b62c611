"""The way to a remote PostgreSQL: with sslmode=verify-full nothing is said to a server that cannot prove its name."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from luntrex_proxy.store.database import open_pool
from luntrex_proxy.store.errors import StoreError
from tests.upstreams.certificates import Authority

_ASKS_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Front:
    """In front of a PostgreSQL's Unix socket: TLS, or with None the answer that there is none."""

    def __init__(self, dsn: str, tls: ssl.SSLContext | None) -> None:
        directory = parse_qs(urlsplit(dsn).query)["host"][0]
        self._socket = next(Path(directory).glob(".s.PGSQL.*[0-9]"))
        self._tls = tls
        self.heard = b""  # what came in readable to us, beyond the question for TLS

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert await reader.readexactly(8) == _ASKS_FOR_TLS
            writer.write(b"N" if self._tls is None else b"S")
            if self._tls is not None:
                await writer.start_tls(self._tls)
            to_server, server = await asyncio.open_unix_connection(str(self._socket))
            await asyncio.gather(self._pump(reader, server, note=True), self._pump(to_server, writer))
        writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, note: bool = False) -> None:
        while piece := await reader.read(65_536):
            if note:
                self.heard += piece
            writer.write(piece)
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("wrong", ["nothing", "authority", "name", "plaintext"])
async def test_postgres_is_spoken_to_over_verified_tls_only(database_dsn: str, tmp_path: Path, wrong: str) -> None:
    """Another authority's certificate, another name's, or none: a sentence, and no user or password has left."""
    authority = Authority(tmp_path)
    (tmp_path / "other").mkdir()
    ca_file = (Authority(tmp_path / "other") if wrong == "authority" else authority).ca_file
    name = "elsewhere.invalid" if wrong == "name" else "127.0.0.1"
    front = Front(database_dsn, None if wrong == "plaintext" else authority.server_context(name))
    user, path = urlsplit(database_dsn).username or "luntrex", urlsplit(database_dsn).path
    async with front.serving() as port:
        dsn = f"postgresql://{user}:hunter2@127.0.0.1:{port}{path}?sslmode=verify-full&sslrootcert={ca_file}"
        if wrong == "nothing":
            pool = await open_pool(dsn)
            assert await pool.fetchval("SELECT 1") == 1
            await pool.close()
            return
        with pytest.raises(StoreError, match=r"The database at 127\.0\.0\.1:\d+ cannot be reached") as refused:
            await open_pool(dsn, wait_s=0.2)
        assert "hunter2" not in str(refused.value)
    assert front.heard == b""
