"""A proxy in front of the tests' PostgreSQL, whose connections can fall silent."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.upstreams.loop_thread import LoopThread
from tests.whole.faultproxy import FaultProxy


def proxied(servers: LoopThread, dsn: str) -> tuple[FaultProxy, str]:
    """A proxy in front of the server's socket, and the DSN of the same database through it."""
    parts = urlsplit(dsn)
    proxy = FaultProxy(servers, Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432")
    return proxy, f"postgresql://luntrex@127.0.0.1:{proxy.port}{parts.path}?sslmode=disable"
