"""A second entrance to a running gateway, through the real opening of listeners, with what a test puts before it."""

import contextlib
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

from luntrex_proxy.gateway.http.listener import Entrance, GatewayRunner
from luntrex_proxy.settings.listeners import TlsFiles
from luntrex_proxy.sockets.opening import Manner, Opened, open_listeners
from luntrex_proxy.sockets.tls import Tls
from tests.fakes import Gateway

LOCAL = ("127.0.0.0/8", "::1")
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@contextlib.asynccontextmanager
async def entered(
    gateway: Gateway, entrance: Entrance, *listen: str, manner: Manner | None = None
) -> AsyncIterator[Opened]:
    """Listen for `gateway` at `listen` (default: a loopback port) behind `entrance`; at the end it drains."""
    runner = GatewayRunner(gateway.pipeline, gateway.ticker, 0.2, entrance)
    await runner.setup()
    opened = Opened()
    try:
        opened = await open_listeners(runner, listen or ("127.0.0.1:0",), manner or Manner())
        yield opened
    finally:
        await runner.cleanup()
        opened.remove_files()


def port_of(opened: Opened) -> int:
    """The port of the first listener."""
    return int(opened.addresses[0].rpartition(":")[2])


def version2(command: int, family: int, block: bytes, length: int | None = None) -> bytes:
    """A PROXY protocol header, version 2."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block) if length is None else length) + block


def openssl(*arguments: str) -> None:
    """Run openssl, quietly."""
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


class Certificates:
    """An authority made by openssl, and certificates of it in files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self._ca_key = directory / "ca.key"
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", "/CN=test authority", "-keyout", str(self._ca_key), "-out", str(self.ca_file),
        )  # fmt: skip

    def issue(self, name: str, common: str = "localhost") -> TlsFiles:
        """A certificate and key in files named `name`; written anew each time."""
        key, request, cert = (self.directory / f"{name}.{kind}" for kind in ("key", "csr", "pem"))
        openssl(
            "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={common}",
            "-keyout", str(key), "-out", str(request),
        )  # fmt: skip
        openssl(
            "x509", "-req", "-in", str(request), "-CA", str(self.ca_file), "-CAkey", str(self._ca_key),
            "-CAcreateserial", "-days", "2", "-out", str(cert),
        )  # fmt: skip
        return TlsFiles(cert_file=cert, key_file=key)

    def client(self, certificate: TlsFiles | None = None) -> ssl.SSLContext:
        """A client's context that trusts this authority. Names are not checked: common names are what tests compare."""
        context = ssl.create_default_context(cafile=self.ca_file)
        context.check_hostname = False
        if certificate is not None:
            context.load_cert_chain(certificate.cert_file, certificate.key_file)
        return context


def secured(files: TlsFiles, handshake_s: float = 5) -> Entrance:
    """An entrance with TLS."""
    return Entrance(tls=Tls(files, handshake_s))
