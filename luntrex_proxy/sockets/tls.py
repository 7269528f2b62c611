"""TLS on a listener: certificates that can be replaced while connections run, and the handshake on an accepted socket.

Listeners accept in plain and start TLS afterwards with the context that is current at that moment: so what comes before
TLS (limits by address, the PROXY protocol) costs no handshake, and a new certificate needs no new listener.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from luntrex_proxy.core.listening import ListenError
from luntrex_proxy.settings.listeners import TlsFiles

_ALPN = ["http/1.1"]
_CLOSE_S = 2.0  # for a peer's close_notify; who has our answer has no reason to wait longer


class TlsError(ListenError):
    """Certificate files cannot be used; the text is one sentence for the operator."""


class Tls:
    """The certificates in force on a plane's listeners."""

    __slots__ = ("context", "handshake_s")

    def __init__(self, files: TlsFiles, handshake_s: float) -> None:
        self.context = build_context(files)
        self.handshake_s = handshake_s

    async def start(self, transport: asyncio.Transport, protocol: "Waiting") -> asyncio.Transport | None:
        """Shake hands; what `protocol` had received already is part of it. None when the peer did not."""
        loop = asyncio.get_running_loop()
        handshake = loop.create_task(
            loop.start_tls(
                transport,
                protocol,
                self.context,
                server_side=True,
                ssl_handshake_timeout=self.handshake_s,
                ssl_shutdown_timeout=_CLOSE_S,
            )
        )
        await asyncio.sleep(0)  # it has put its own protocol in ours' place and scheduled that one's connection_made
        early = protocol.take()
        if early and not handshake.done():
            loop.call_soon(_feed, transport, transport.get_protocol(), early)
        try:
            return await handshake
        except OSError:  # ssl.SSLError and the timeout are among them; their texts may quote the peer
            transport.abort()
            return None


class Waiting(asyncio.Protocol):
    """The protocol of a connection that is not served yet: keeps what comes. Base of what stands in front of TLS."""

    def __init__(self) -> None:
        self._received = b""

    def data_received(self, data: bytes) -> None:
        """Keep it."""
        self._received += data

    def take(self) -> bytes:
        """Everything kept so far."""
        data, self._received = self._received, b""
        return data


class Securing(Waiting):
    """Stands before any protocol: shakes hands, then hands the secured connection over."""

    def __init__(self, tls: Tls, factory: Callable[[], asyncio.Protocol]) -> None:
        super().__init__()
        self._tls = tls
        self._factory = factory
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        if isinstance(transport, asyncio.Transport):
            self._task = asyncio.ensure_future(self._secure(transport))

    async def _secure(self, transport: asyncio.Transport) -> None:
        secured = await self._tls.start(transport, self)
        if secured is not None:
            hand_over(secured, self._factory(), self.take())


def hand_over(transport: asyncio.Transport, protocol: asyncio.Protocol, received: bytes) -> None:
    """Let `protocol` serve a connection that another protocol had until now."""
    if transport.is_closing():
        return
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if received and not transport.is_closing():
        protocol.data_received(received)


def build_context(files: TlsFiles) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, HTTP/1.1 only, client certificates when asked for. Raises TlsError."""
    for file in files.files():
        _check_readable(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    try:
        # A password of our own, because OpenSSL would ask for one at the terminal.
        context.load_cert_chain(files.cert_file, files.key_file, password="")
    except (ssl.SSLError, OSError, ValueError):
        raise TlsError(
            f"The certificate {files.cert_file} and the key {files.key_file} cannot be used: both must be PEM, the key "
            "must belong to the certificate and must not be encrypted."
        ) from None
    if files.client_ca_file is not None:
        try:
            context.load_verify_locations(files.client_ca_file)
        except (ssl.SSLError, OSError):
            raise TlsError(f"The client_ca_file {files.client_ca_file} holds no PEM certificates.") from None
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _check_readable(file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as error:
        why = error.strerror or "it cannot be read"
        raise TlsError(f"The TLS file {file} cannot be read: {why}.") from None


def _feed(transport: asyncio.Transport, protocol: Any, data: bytes) -> None:
    """Give a BufferedProtocol bytes that were read before it was there."""
    view = memoryview(data)
    while view and not transport.is_closing():
        buffer = protocol.get_buffer(len(view))
        count = min(len(buffer), len(view))
        buffer[:count] = view[:count]
        protocol.buffer_updated(count)
        view = view[count:]
