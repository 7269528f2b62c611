"""The gateway's own TLS: what is accepted, what is refused, how a certificate is replaced, and PROXY before TLS."""

import asyncio
import socket
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from luntrex_proxy.settings.listeners import TlsFiles
from luntrex_proxy.sockets.tls import Tls, TlsError, _feed, build_context
from tests.fakes import PATIENCE_S, Gateway, both_dialects, serving, until
from tests.gateway.doors import LOCAL, Certificates, entered, openssl, port_of, secured
from tests.gateway.wire import STREAM_BODY, connected, post, reply, sse_head, upstream_server

EVENT = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> TlsFiles:
    return certificates.issue("server", "first")


@asynccontextmanager
async def opened(entrance: Entrance, body: bytes = b"{}") -> AsyncIterator[tuple[Gateway, int]]:
    """A gateway behind `entrance`, and its port."""
    async with (
        upstream_server([reply(200, body)]) as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as doors,
    ):
        yield gateway, port_of(doors)


async def ask(port: int, context: ssl.SSLContext, request: bytes = b"", before: bytes = b"") -> tuple[bytes, str]:
    """One request over TLS: the answer, and the common name of the server's certificate."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if before:
            writer.write(before)
        await writer.start_tls(context)
        certificate = writer.get_extra_info("peercert")
        writer.write(request or post(b'{"model":"m"}', "Connection: close"))
        answer = await reader.read()
        writer.close()
        return answer, dict(part[0] for part in certificate["subject"])["commonName"]


async def fails(port: int, context: ssl.SSLContext) -> bool:
    """Whether a client with `context` gets no answer."""
    try:
        return await ask(port, context) == (b"", "first")
    except OSError:
        return True


async def test_requests_and_streams_pass(certificates: Certificates, server: TlsFiles) -> None:
    """Without a server name, with TLS 1.2 and 1.3; large answers whole; HTTP/1.1 is what ALPN says."""
    large = b'{"x":"' + b"y" * 300_000 + b'"}'
    async with opened(secured(server), large) as (gateway, port):
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = certificates.client()
            context.maximum_version = context.minimum_version = version
            context.set_alpn_protocols(["h2", "http/1.1"])
            answer, name = await ask(port, context)
            assert (answer[:12], answer[-100:], name) == (b"HTTP/1.1 200", large[-100:], "first")
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="any.example")
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        for _ in range(3):  # keep-alive
            writer.write(post())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await reader.readexactly(len(large))
        writer.close()
        await gateway.idle()


async def test_openssl_itself_is_served(certificates: Certificates, server: TlsFiles) -> None:
    """The other implementation: s_client's request, sent with its last handshake bytes, is answered."""
    async with opened(secured(server)) as (_, port):
        program = await asyncio.create_subprocess_exec(
            "openssl", "s_client", "-quiet", "-noservername", "-connect", f"127.0.0.1:{port}", "-CAfile",
            str(certificates.ca_file), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(program.communicate(post(b'{"model":"m"}', "Connection: close")), 10)
        assert said.startswith(b"HTTP/1.1 200")


async def test_old_tls_and_plain_http_are_refused(certificates: Certificates, server: TlsFiles) -> None:
    """TLS 1.1, HTTP to the TLS port, garbage and silence: no answer, no outcome, nothing left."""
    old = certificates.client()
    entrance = secured(server, handshake_s=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        lax = build_context(server)
        lax.minimum_version = ssl.TLSVersion.TLSv1_1
        lax.set_ciphers("ALL:@SECLEVEL=0")
    assert entrance.tls is not None
    strict, entrance.tls.context = entrance.tls.context, lax
    async with opened(entrance) as (_, port):
        assert not await fails(port, old), "the client cannot do it at all"
    entrance.tls.context = strict
    async with opened(entrance) as (gateway, port):
        assert await fails(port, old)
        for data in (post(), b"\x16\x03\x01\x00\x05hello", b""):
            async with connected(port) as client:
                await client.send(data)
                assert b"HTTP/1.1" not in await client.read_all()
        assert gateway.outcomes == []
        assert (await ask(port, certificates.client()))[0].startswith(b"HTTP/1.1 200")


async def test_client_certificates_are_required_when_an_authority_is_named(
    certificates: Certificates, server: TlsFiles, tmp_path: Path
) -> None:
    """Ours is served; none, and one of another authority, are not."""
    asking = server.model_copy(update={"client_ca_file": certificates.ca_file})
    foreign = Certificates(tmp_path).issue("client")
    async with opened(secured(asking)) as (gateway, port):
        good = await ask(port, certificates.client(certificates.issue("client", "app")))
        assert good[0].startswith(b"HTTP/1.1 200")
        assert await fails(port, certificates.client())
        assert await fails(port, certificates.client(foreign))
        assert len(gateway.outcomes) == 1


async def test_a_new_certificate_is_for_new_connections(certificates: Certificates, server: TlsFiles) -> None:
    """A stream that runs goes on with the old one; who connects afterwards sees the new one."""
    entrance, go_on = secured(server), asyncio.Event()
    async with opened(entrance) as (gateway, port):
        pass
    async with (
        upstream_server([sse_head(), b"", EVENT_CHUNK, go_on, LAST]) as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as doors,
    ):
        port = port_of(doors)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=certificates.client())
        writer.write(post(STREAM_BODY))
        await asyncio.wait_for(reader.readuntil(EVENT), PATIENCE_S)
        assert entrance.tls is not None
        entrance.tls.context = build_context(certificates.issue("next", "second"))
        up.script = [reply(200, b"{}")]
        assert (await ask(port, certificates.client()))[1] == "second"
        go_on.set()
        await asyncio.wait_for(reader.readuntil(b"data: [DONE]\n\n"), PATIENCE_S)
        writer.close()


EVENT_CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
DONE = b"data: [DONE]\n\n"
LAST = b"%x\r\n%b\r\n0\r\n\r\n" % (len(DONE), DONE)


@pytest.mark.parametrize("what", ["cert gone", "key gone", "not PEM", "key of another", "encrypted key", "bad CA"])
def test_unusable_files_are_a_sentence(certificates: Certificates, server: TlsFiles, tmp_path: Path, what: str) -> None:
    """And the terminal is not asked for a password."""
    other, locked, junk = certificates.issue("other"), tmp_path / "locked.key", tmp_path / "junk.pem"
    openssl("ec", "-in", str(server.key_file), "-aes128", "-passout", "pass:x", "-out", str(locked))
    junk.write_text("no certificate")
    changes = {
        "cert gone": {"cert_file": tmp_path / "none"},
        "key gone": {"key_file": tmp_path / "none"},
        "not PEM": {"cert_file": junk},
        "key of another": {"key_file": other.key_file},
        "encrypted key": {"key_file": locked},
        "bad CA": {"client_ca_file": junk},
    }
    with pytest.raises(TlsError, match=r"^The [^.]+ .*\.$"):
        build_context(server.model_copy(update=changes[what]))


@pytest.mark.parametrize("header", [b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 443\r\n", b"PROXY UNKNOWN\r\n"])
async def test_the_proxy_protocol_comes_before_tls(certificates: Certificates, server: TlsFiles, header: bytes) -> None:
    """Header and ClientHello in one read or apart; the address counts during the handshake already."""
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"), Addresses(1), tls=Tls(server, 5))
    async with opened(entrance) as (gateway, port):
        answer, name = await ask(port, certificates.client(), before=header)
        assert (answer[:12], name) == (b"HTTP/1.1 200", "first")
        await until(lambda: len(entrance.connections) == 0, "the first one is still counted")
        assert (await in_one_write(port, certificates.client(), header)).startswith(b"HTTP/1.1 200")
        await until(lambda: len(entrance.connections) == 0, "an address is still counted")
        assert len(gateway.outcomes) == 2
        if b"UNKNOWN" not in header:
            async with connected(port) as silent:
                await silent.send(header)
                await until(lambda: len(entrance.connections) == 1, "it does not count")
                async with connected(port) as second:
                    assert await (await second.send(header)).read() == b""


async def in_one_write(port: int, context: ssl.SSLContext, before: bytes) -> bytes:
    """A whole request over TLS where `before` and the ClientHello share one segment, driven by hand."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing)

    def run() -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as sock:
            pending = before
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(pending + outgoing.read())
                    pending = b""
                    incoming.write(sock.recv(65536) or pytest.fail("the connection ended"))
            tls.write(post(b'{"model":"m"}', "Connection: close"))
            sock.sendall(outgoing.read())  # the end of the handshake and the request in one segment
            while True:
                try:
                    return tls.read(65536)
                except ssl.SSLWantReadError:
                    incoming.write(sock.recv(65536) or pytest.fail("the connection ended"))

    return await asyncio.to_thread(run)


async def test_a_broken_handshake_is_no_error_of_ours(certificates: Certificates, server: TlsFiles) -> None:
    """Junk where a ClientHello should be, in one read with the PROXY header: closed, and nothing is reported."""
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    header = b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 443\r\n"
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"), Addresses(10), tls=Tls(server, 5))
    async with opened(entrance) as (_, port):
        for junk in (b"GET / HTTP/1.1\r\n\r\n" * 2500, b"\x16\x03\x01\x00\x04junk" * 5000):
            async with connected(port) as client:
                await client.send(header + junk)
                await client.read_all()
        assert (await ask(port, certificates.client(), before=header))[0].startswith(b"HTTP/1.1 200")
        await until(lambda: len(entrance.connections) == 0, "an address is still counted")
    assert not reported


def test_a_handshake_that_broke_is_given_no_more() -> None:
    """Bytes that were read early go to TLS piece by piece; once it has closed the connection, the rest goes nowhere."""

    class Broken:
        """Closes at the first piece, as a TLS protocol that finds junk; the next one would be an error of ours."""

        closed = False
        buffer = bytearray(4)

        def is_closing(self) -> bool:
            return self.closed

        def get_buffer(self, _: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            assert not self.closed
            assert count == 4
            self.closed = True

    broken = Broken()
    _feed(cast(asyncio.Transport, broken), broken, b"junk" * 3)
    assert broken.closed


async def test_many_handshakes_that_stop_are_cleared(certificates: Certificates, server: TlsFiles) -> None:
    """Two hundred clients that send half a ClientHello: none holds on, a good one is served meanwhile."""
    async with opened(secured(server, handshake_s=1)) as (gateway, port):
        halves = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in halves:
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
        assert (await ask(port, certificates.client()))[0].startswith(b"HTTP/1.1 200")
        for reader, writer in halves:
            assert await asyncio.wait_for(_read(reader), PATIENCE_S) == b""
            writer.close()
        assert len(gateway.outcomes) == 1


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""
