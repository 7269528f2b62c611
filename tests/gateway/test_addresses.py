"""Whom a connection or request counts for, and the counts: bounded, exempt where they must be, and empty in the end."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luntrex_proxy.gateway.http.addresses import UNREADABLE, Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance
from tests.fakes import both_dialects, serving, until
from tests.gateway.doors import LOCAL, entered, port_of
from tests.gateway.wire import Client, connected, post, upstream_server

PROXIES = Clients(["10.0.0.0/8", "fd00::/8", "unix"], "x_forwarded_for")


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("10.1.2.3", ""), ("::ffff:10.1.2.3", ""), ("fd12::1", ""),  # trusted
        ("127.0.0.1", ""), ("127.8.8.8", ""), ("::1", ""), ("::ffff:127.0.0.1", ""),  # this machine
        ("", ""), ("unix", ""), ("nonsense", ""),
    ],
)  # fmt: skip
def test_an_address_counts_as_itself_or_its_network(address: str, counted: str) -> None:
    """IPv6 by /64; IPv4 however it is written; proxies and this machine not at all."""
    assert PROXIES.identify(address)[0] == counted


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what is on the left anybody can write
        (b"198.51.100.1, 203.0.113.9, 10.0.0.1,10.0.0.2", "203.0.113.9"),
        (b"203.0.113.9:4711, 10.0.0.1:80", "203.0.113.9"),
        (b"[2001:db8::1]:80", "2001:db8::/64"),
        (b"2001:db8::1", "2001:db8::/64"),
        (b"10.0.0.1, 10.0.0.2", "10.0.0.1"),  # somebody of our own
        (b"evil\x00, 10.0.0.2", "10.0.0.2"),
        (b"203.0.113.9, unknown", UNREADABLE),
        (b"", UNREADABLE), (b",", UNREADABLE), (b"\xff", UNREADABLE), (b"127.0.0.1", "127.0.0.1"),
        (b"203.0.113.9, " + b"10.0.0.1, " * 40 + b"10.0.0.1", "10.0.0.1"),
    ],
)  # fmt: skip
def test_the_last_address_that_is_no_proxy_is_the_client(header: bytes, client: str) -> None:
    """What a client itself wrote into the header never counts."""
    assert PROXIES.forwarded(header) == client


@given(st.binary(max_size=200))
def test_no_header_breaks_it(header: bytes) -> None:
    """Any bytes give something that is counted: "" would have no limit."""
    assert PROXIES.forwarded(header)


def test_a_peer_is_trusted_by_its_network() -> None:
    """And one on a Unix socket by the word for it."""
    assert [PROXIES.trusts(peer) for peer in ("10.9.9.9", "::ffff:10.9.9.9", "fd00::1", "")] == [True] * 4
    assert [PROXIES.trusts(peer) for peer in ("11.0.0.1", "::1", "nonsense")] == [False] * 3
    assert not Clients(["10.0.0.0/8"]).trusts("")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=60), st.integers(1, 4))
def test_counts_are_bounded_and_shrink_to_nothing(steps: list[tuple[str, bool]], limit: int) -> None:
    """However they come and go, nobody has more than the limit, and an empty table is left."""
    counts, inside = Addresses(limit), {"a": 0, "b": 0, "c": 0}
    for name, comes in steps:
        if comes:
            assert counts.enter(name) is (inside[name] < limit)
            inside[name] = min(inside[name] + 1, limit)
        elif inside[name]:
            counts.leave(name)
            inside[name] -= 1
    assert len(counts) == sum(1 for count in inside.values() if count)
    for name, count in inside.items():
        for _ in range(count):
            counts.leave(name)
    assert len(counts) == 0


def _from(address: str) -> bytes:
    return f"PROXY TCP4 {address} 10.0.0.1 1234 443\r\n".encode()


async def _served(client: Client, address: str) -> bool:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        await client.send(_from(address) + post())
    return (await client.read())[:12] == b"HTTP/1.1 200"


async def test_one_address_gets_its_share_and_no_more() -> None:
    """The third connection of an address is closed at once; another address is served; a place freed is free."""
    entrance = Entrance(Clients(LOCAL, "proxy_protocol"), Addresses(2))
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as opened,
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(connected(port_of(opened))) for _ in range(5)]
        assert await _served(clients[0], "203.0.113.1")
        assert await _served(clients[1], "203.0.113.1")
        assert not await _served(clients[2], "203.0.113.1")
        assert await _served(clients[3], "203.0.113.2")
        clients[0].close()
        await until(lambda: entrance.connections.enter("203.0.113.1"), "the place is not free again")
        entrance.connections.leave("203.0.113.1")
        assert await _served(clients[4], "203.0.113.1")
        for client in clients:
            client.close()
        await until(lambda: len(entrance.connections) == 0, "an address is still counted")


async def test_loopback_has_no_limit() -> None:
    """Whoever comes from this machine is one of many behind one address."""
    entrance = Entrance(Clients(), Addresses(1))
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as one,
        connected(port_of(opened)) as two,
    ):
        for client in (one, two):
            assert (await (await client.send(post())).reply()).status == 200
