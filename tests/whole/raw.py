"""A client without manners: sends any bytes, reads any bytes, leaves when it likes."""

import json
import socket
import struct
import time
from types import TracebackType
from typing import Any, Self

from tests.whole.daemon import Daemon


class RawClient:
    """One TCP connection to the gateway."""

    def __init__(self, port: int, timeout_seconds: float = 10) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> Self:
        """Write bytes."""
        self._socket.sendall(data)
        return self

    def read_until(self, mark: bytes) -> bytes:
        """Everything received, once `mark` is in it; fails when the connection ends first."""
        while mark not in self.received:
            data = self._socket.recv(65536)
            assert data, f"the connection ended before {mark!r}: {self.received[-300:]!r}"
            self.received += data
        return self.received

    def read_all(self) -> bytes:
        """Everything until the gateway closes the connection."""
        try:
            while data := self._socket.recv(65536):
                self.received += data
        except ConnectionResetError:
            pass
        return self.received

    def reset(self) -> float:
        """Leave with a RST; the moment it happened (time.monotonic())."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return self.leave()

    def leave(self) -> float:
        """Close; the moment it happened (time.monotonic())."""
        left_at = time.monotonic()
        self._socket.close()
        return left_at


class Reply:
    """One HTTP response as it came over the wire."""

    def __init__(self, received: bytes) -> None:
        head, _, self.rest = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0] else 0
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        chunked = self.headers.get("transfer-encoding") == "chunked"
        self.body, self.complete = dechunk(self.rest) if chunked else (self.rest, True)

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def dechunk(data: bytes) -> tuple[bytes, bool]:
    """The content of a chunked body and whether its last chunk was there."""
    body = b""
    while data:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            return body, True
        body, data = body + data[:size], data[size + 2 :]
    return body, False


def post(
    daemon: Daemon, path: str, body: bytes | dict[str, Any], *headers: str, key: str | None = None, method: str = "POST"
) -> bytes:
    """One request with the daemon's key, asking for the connection to be closed after the answer."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = daemon.key if key is None else key
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{daemon.port}",
        *([f"Authorization: Bearer {given}"] if given else []),
        "Content-Type: application/json",
        f"Content-Length: {len(payload)}",
        "Connection: close",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines).encode("utf-8") + payload


def ask(daemon: Daemon, request: bytes) -> Reply:
    """Send one request on a connection of its own and read the answer to its end."""
    with RawClient(daemon.port) as client:
        return Reply(client.send(request).read_all())
