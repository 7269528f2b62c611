"""The PROXY protocol: what is read, what ends the connection, and that nothing of it reaches the request."""

import asyncio
import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from luntrex_proxy.gateway.http.proxyprotocol import (
    MAX_HEADER_BYTES,
    BadProxyHeaderError,
    ProxyHeader,
    parse_proxy_header,
)
from tests.fakes import both_dialects, serving, until
from tests.gateway.doors import LOCAL, SIGNATURE, entered, port_of, version2
from tests.gateway.wire import Client, connected, post, upstream_server

V4 = bytes([203, 0, 113, 9, 10, 0, 0, 1]) + b"\x04\xd2\x01\xbb"
V6 = ipaddress.ip_address("2001:db8::7").packed + ipaddress.ip_address("::1").packed + b"\x04\xd2\x01\xbb"
TLV = b"\x04\x00\x03abc"

GOOD = [
    (b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 443\r\n", "203.0.113.9"),
    (b"PROXY TCP4 203.0.113.9 10.0.0.1 0 65535\r\n", "203.0.113.9"),
    (b"PROXY TCP6 2001:db8::7 ::1 1234 443\r\n", "2001:db8::7"),
    (b"PROXY UNKNOWN\r\n", ""),
    (b"PROXY UNKNOWN ffff:f...f:ffff x 65535 65535\r\n", ""),
    (version2(0x21, 0x11, V4), "203.0.113.9"),
    (version2(0x21, 0x11, V4 + TLV), "203.0.113.9"),
    (version2(0x21, 0x21, V6 + TLV * 9), "2001:db8::7"),
    (version2(0x21, 0x31, b"/a".ljust(108, b"\0") * 2), ""),
    (version2(0x21, 0x00, TLV), ""),
    (version2(0x20, 0x00, b""), ""),
    (version2(0x20, 0x11, V4), ""),  # LOCAL: the addresses are to be ignored
    (version2(0x20, 0x77, b"?"), ""),
]

BAD = [
    b"GET / HTTP/1.1\r\n",
    b"proxy TCP4 203.0.113.9 10.0.0.1 1234 443\r\n",
    b"PROXY  TCP4 203.0.113.9 10.0.0.1 1234 443\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.1 1234\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.1 01234 443\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.1 65536 443\r\n",
    b"PROXY TCP4 203.0.113.256 10.0.0.1 1234 443\r\n",
    b"PROXY TCP4 203.0.113.09 10.0.0.1 1234 443\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1234 443\r\n",
    b"PROXY TCP6 203.0.113.9 10.0.0.1 1234 443\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1234 443\r\n",
    b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 443 \r\n",
    b"PROXY UDP4 203.0.113.9 10.0.0.1 1234 443\r\n",
    b"PROXY UNKNOWN \xff\r\n",
    b"PROXY UNKNOWN" + b" " * 100 + b"\r\n",
    b"PROXY TCP4 " + b"1" * 200,
    version2(0x11, 0x11, V4),
    version2(0x22, 0x11, V4),
    version2(0x21, 0x12, V4),  # a datagram over a stream
    version2(0x21, 0x41, V4),
    version2(0x21, 0x11, V4[:-1]),
    version2(0x21, 0x21, V4),
    version2(0x21, 0x11, V4, MAX_HEADER_BYTES - 15),
    version2(0x21, 0x11, V4, 65535),
    SIGNATURE[:-1] + b"\r",
]


@pytest.mark.parametrize(("header", "address"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n\r\n", SIGNATURE])
def test_headers_are_read(header: bytes, address: str, rest: bytes) -> None:
    """The address and the length, whatever follows; each shorter piece asks for more."""
    assert parse_proxy_header(header + rest) == ProxyHeader(address, len(header))
    assert [parse_proxy_header(header[:end]) for end in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize("data", BAD)
def test_anything_else_is_refused(data: bytes) -> None:
    """Odd versions, families, lengths, numbers, and what is no header at all."""
    with pytest.raises(BadProxyHeaderError):
        parse_proxy_header(data)


@given(st.binary(max_size=64), st.sampled_from([b"", SIGNATURE, SIGNATURE + b"\x21", b"PROXY ", b"PROXY TCP4 "]))
def test_no_bytes_confuse_the_parser(tail: bytes, start: bytes) -> None:
    """It says bad, asks for more within its bound, or gives an address and a length that are true."""
    data = start + tail
    with contextlib.suppress(BadProxyHeaderError):
        header = parse_proxy_header(data)
        if header is not None:
            assert 0 < header.length <= len(data)
            assert not header.address or ipaddress.ip_address(header.address)


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40), st.booleans())
def test_what_a_balancer_writes_comes_back(address: ipaddress.IPv4Address, port: int, tail: bytes, line: bool) -> None:
    """Every address, in both versions."""
    zone_free = ipaddress.ip_address(str(address).partition("%")[0])
    if line:
        header = f"PROXY TCP{zone_free.version} {zone_free} {zone_free} {port} {port}\r\n".encode()
    else:
        ports = port.to_bytes(2) * 2
        header = version2(0x21, 0x11 if zone_free.version == 4 else 0x21, zone_free.packed * 2 + ports + tail)
    assert parse_proxy_header(header + tail) == ProxyHeader(str(zone_free), len(header))


@pytest.mark.parametrize(("header", "address"), GOOD)
async def test_the_request_behind_a_header_is_served(header: bytes, address: str) -> None:
    """Whole, byte by byte, or with the request in the same read; the upstream sees nothing of it; it counts."""
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"), Addresses(5))
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as client,
        connected(port_of(opened)) as slow,
    ):
        assert (await (await client.send(header + post())).reply()).status == 200
        expected = 0 if not address else 1
        assert len(entrance.connections) == expected
        for byte in (header[:14], header[14:-1], header[-1:]):
            await slow.send(byte)
            await asyncio.sleep(0.01)
        assert (await (await slow.send(post())).reply()).status == 200
        assert b"203.0.113" not in up.raw
        assert b"2001:db8" not in up.raw
        client.close()
        slow.close()
        await until(lambda: len(entrance.connections) == 0, "an address is still counted")
        await gateway.idle()


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", post(), BAD[4], BAD[17], b"\x16\x03\x01"])
async def test_without_a_header_nobody_is_served(data: bytes) -> None:
    """A trusted proxy that sends none, or a wrong one, is closed without an answer."""
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"))
    async with (
        serving([]) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as client,
    ):
        assert await (await client.send(data)).read_all() == b""
        assert gateway.outcomes == []


async def test_an_untrusted_peer_is_closed() -> None:
    """Its header would be a lie."""
    entrance = Entrance(Clients(["192.0.2.0/24"], "proxy_protocol"))
    async with (
        serving([]) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as client,
    ):
        assert await _leaves(client, GOOD[0][0] + post()) == b""


async def test_a_header_that_does_not_come_is_not_waited_for() -> None:
    """tls_handshake_s bounds it."""
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"))
    async with (
        serving([], timeouts={"tls_handshake_s": 0.3}) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as client,
    ):
        await client.send(b"PROXY TC")
        assert await client.read_all() == b""


async def _leaves(client: Client, data: bytes) -> bytes:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        await client.send(data)
    return await client.read_all()
