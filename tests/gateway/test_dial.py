"""How connections are made: addresses from a cache, a proxy where there is one, TLS to the upstream itself."""

import asyncio
import contextlib
import socket
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from luntrex_proxy.gateway.http.dial import Addresses, Dialer, DialError, Proxy
from luntrex_proxy.gateway.http.ticker import TICK_S
from luntrex_proxy.gateway.upstreams import UnusableUpstreamError, build_upstream
from luntrex_proxy.settings.secrets import Surroundings
from luntrex_proxy.settings.upstreams import Upstream
from tests.fakes import entry, serving, until, upstream
from tests.gateway.wire import CLOSE, LoopUpstream, Step, ask, post, reply, upstream_server
from tests.upstreams.bodies import chat_body
from tests.upstreams.certificates import Authority

GOOD: list[Step] = [reply(200, chat_body())]
MODELS = [entry("m", ("a", "m"))]


def tcp(host: str, port: int) -> Any:
    """An address as getaddrinfo has it."""
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))


class Names:
    """A loop whose DNS and clock are the test's."""

    def __init__(self, *answer: Any) -> None:
        self.answer: list[Any] | Exception = list(answer)
        self.asked = 0
        self.now = 1000.0
        self.gate = asyncio.Event()
        self.gate.set()
        self._loop = asyncio.get_running_loop()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def time(self) -> float:
        """Seconds."""
        return self.now

    async def getaddrinfo(self, host: str, port: int, **more: Any) -> list[Any]:
        """What DNS says now."""
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def addresses(names: Any, ttl_s: float = 60) -> Addresses:
    """A cache over it."""
    return Addresses("up.test", 1, ttl_s, names)


A, B, C = (tcp(f"127.0.0.{n}", 1) for n in (2, 3, 4))


async def test_names_are_looked_up_once_per_ttl() -> None:
    """Fifty at once wait for one lookup; within the TTL nobody looks."""
    names = Names(A, B)
    cache = addresses(names)
    assert await asyncio.gather(*(cache.get() for _ in range(50))) == [[A, B]] * 50
    names.now += 59
    await cache.get()
    assert names.asked == 1


async def test_a_stale_answer_serves_while_a_new_one_comes() -> None:
    """A little too old: used at once, renewed beside it. Far too old: waited for."""
    names = Names(A)
    cache = addresses(names)
    await cache.get()
    names.now += 61
    names.answer = [B]
    names.gate.clear()
    assert await cache.get() == [A]
    names.gate.set()
    await asyncio.sleep(0.01)
    assert await cache.get() == [B]
    assert names.asked == 2
    names.now += 3600
    names.answer = [C]
    assert await cache.get() == [C]


async def test_the_last_answer_serves_when_dns_fails() -> None:
    """However old it is; and DNS is asked again a second later, not at every connection."""
    names = Names(A)
    cache = addresses(names)
    await cache.get()
    names.answer = socket.gaierror("no")
    names.now += 100_000
    for _ in range(20):
        assert await cache.get() == [A]
    assert names.asked == 2
    names.now += 1.5
    names.answer = [B]
    await cache.get()
    await asyncio.sleep(0.01)
    assert await cache.get() == [B]


@pytest.mark.parametrize("failure", [socket.gaierror("no"), UnicodeError("label too long"), []])
async def test_a_name_that_never_had_an_address(failure: Any) -> None:
    """An OSError, so that the next target gets the request; and a later answer is found."""
    names = Names()
    names.answer = failure
    cache = addresses(names)
    with pytest.raises(DialError):
        await cache.get()
    names.now += 2
    names.answer = [A]
    assert await cache.get() == [A]


async def test_answers_are_bounded() -> None:
    """A thousand addresses are not tried one after the other."""
    assert len(await addresses(Names(*[A] * 1000)).get()) == 16


async def test_addresses_need_no_dns() -> None:
    """An IP address is its own answer."""
    for host, family in (("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)):
        names = Names()
        assert [found[0] for found in await Addresses(host, 5, 60, names).get()] == [family]  # type: ignore[arg-type]
        assert names.asked == 0


async def test_all_addresses_are_tried_and_the_good_one_is_remembered() -> None:
    """Two dead addresses before the live one: reached; the next connection begins with the live one."""
    async with upstream_server(GOOD) as up:
        live = tcp("127.0.0.1", up.port)
        names = Names(tcp("127.0.0.2", 9), tcp("127.0.0.3", 9), live)
        dialer = Dialer(host="up.test", port=up.port, tls=None, loop=names)  # type: ignore[arg-type]  # a loop that resolves as told
        for _ in range(2):
            (await _dialled(dialer)).abort()
        assert (await dialer._addresses.get())[0] == live
        names.now += 61
        await dialer._addresses.get()
        await asyncio.sleep(0.01)
        assert (await dialer._addresses.get())[0] == live, "a new answer keeps the preference"


async def test_a_silent_address_does_not_cost_the_whole_time() -> None:
    """An address that never answers (RFC 8305): the next one is tried beside it."""
    async with upstream_server(GOOD) as up:
        with socket.socket() as full:  # a listener whose queue is full answers nothing
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            silent = full.getsockname()
            with contextlib.ExitStack() as stack:
                for _ in range(4):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(silent)
                names = Names(tcp(*silent), tcp("127.0.0.1", up.port))
                dialer = Dialer(host="up.test", port=1, tls=None, loop=names, connect_s=4)  # type: ignore[arg-type]  # a loop that resolves as told
                (await _dialled(dialer)).abort()


@contextlib.asynccontextmanager
async def breaking(how: str) -> AsyncIterator[tuple[int, list[int]]]:
    """A node that accepts and then does not serve: its port, and a list that grows with each connection."""
    accepted: list[int] = []

    class Node(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            accepted.append(1)
            if how == "resets":
                transport.abort()
            elif how == "closes":
                transport.close()
            elif how == "talks":
                transport.write(b"220 mail.test ESMTP\r\n")

    server = await asyncio.get_running_loop().create_server(Node, "127.0.0.2", 0)
    try:
        yield server.sockets[0].getsockname()[1], accepted
    finally:
        server.close()


@pytest.mark.parametrize("how", ["resets", "closes", "talks"])
async def test_an_address_that_breaks_tls_is_left_for_the_next(how: str, tmp_path: Path) -> None:
    """A node that accepts and then fails is no good one: the same call goes to the next, and later ones begin there."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.ca_file)
    async with (
        breaking(how) as (port, accepted),
        upstream_server(GOOD, tls=authority.server_context("up.test")) as up,
    ):
        names = Names(tcp("127.0.0.2", port), tcp("127.0.0.1", up.port))
        dialer = Dialer(host="up.test", port=1, tls=context, loop=names, connect_s=3)  # type: ignore[arg-type]  # a loop that resolves as told
        for _ in range(3):
            (await _dialled(dialer)).abort()
        assert len(accepted) == 1


async def test_an_address_that_hangs_is_not_the_first_again(tmp_path: Path) -> None:
    """It costs one connection its time; the next begins with another address."""
    authority = Authority(tmp_path)
    context = ssl.create_default_context(cafile=authority.ca_file)
    async with (
        breaking("hangs") as (port, accepted),
        upstream_server(GOOD, tls=authority.server_context("up.test")) as up,
    ):
        names = Names(tcp("127.0.0.2", port), tcp("127.0.0.1", up.port))
        dialer = Dialer(host="up.test", port=1, tls=context, loop=names, connect_s=0.5)  # type: ignore[arg-type]  # a loop that resolves as told
        with pytest.raises(TimeoutError):
            await _dialled(dialer)
        (await _dialled(dialer)).abort()
        assert len(accepted) == 1


async def test_when_no_address_serves_the_failure_is_told(tmp_path: Path) -> None:
    """Each is tried once, and the last one's failure is an OSError as ever."""
    context = ssl.create_default_context(cafile=Authority(tmp_path).ca_file)
    async with breaking("resets") as (one, first), breaking("closes") as (two, second):
        names = Names(tcp("127.0.0.2", one), tcp("127.0.0.2", two))
        dialer = Dialer(host="up.test", port=1, tls=context, loop=names, connect_s=3)  # type: ignore[arg-type]  # a loop that resolves as told
        with pytest.raises(OSError):
            await _dialled(dialer)
        assert (len(first), len(second)) == (1, 1)


async def _dialled(dialer: Dialer) -> Any:
    class Made(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

    transport = (await dialer.connect(Made)).transport
    assert transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return transport


# Age and idleness of connections.


async def test_an_old_connection_is_not_used_again() -> None:
    """The upstream's name may stand for another address by now; a young one is kept."""
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url, max_connection_age_s=0.6)], MODELS) as gw:
        await ask(gw.port, post())
        await ask(gw.port, post())
        assert up.connections == 1
        await asyncio.sleep(0.6 + TICK_S)
        await ask(gw.port, post())
        assert up.connections == 2


async def test_an_idle_connection_is_closed() -> None:
    """After keep_alive_s, so that the server does not do it first."""
    async with upstream_server(GOOD) as up, serving([upstream("a", up.url, keep_alive_s=0.2)], MODELS) as gateway:
        await ask(gateway.port, post())
        await until(lambda: not up.open)
        assert gateway.pipeline.routing.upstreams["a"].origin.open == 0


# TLS.


async def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """An upstream that demands one gets it; without one there is no connection."""
    authority = Authority(tmp_path)
    server = authority.server_context("127.0.0.1")
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(authority.ca_file)
    authority.server_context("client.test")
    certificate = tmp_path / "client.test.pem"
    async with upstream_server(GOOD, tls=server) as up:
        url = up.url.replace("http", "https")
        more = {"ca_file": authority.ca_file, "client_certificate_file": certificate}
        async with serving([upstream("a", url, **more)], MODELS) as gateway:
            assert (await ask(gateway.port, post())).status == 200
        async with serving([upstream("a", url, ca_file=authority.ca_file)], MODELS) as gateway:
            assert (await ask(gateway.port, post())).status == 502
        assert len(up.requests) == 1


async def test_a_client_certificate_that_is_none(tmp_path: Path) -> None:
    """One sentence that names the file."""
    file = tmp_path / "junk.pem"
    file.write_text("junk")
    one = upstream("a", "https://up.test", client_certificate_file=file)
    with pytest.raises(UnusableUpstreamError, match=r"client certificate of upstream a \(.*junk.pem\)"):
        build_upstream(one, None, asyncio.get_running_loop(), b"")  # type: ignore[arg-type]  # it never gets to a ticker


async def test_the_check_reads_a_client_certificate(tmp_path: Path) -> None:
    """What serve could not use is said before it starts; a good one passes, its key in the same file."""
    Authority(tmp_path).server_context("client.test")
    (tmp_path / "junk.pem").write_text("junk")
    for name, sentence in (("client.test.pem", ""), ("junk.pem", "are not PEM"), ("none.pem", "is not there")):
        data = {"name": "a", "dialect": "openai", "base_url": "https://u", "client_certificate_file": tmp_path / name}
        with contextlib.nullcontext() if not sentence else pytest.raises(ValueError, match=sentence):
            Upstream.model_validate(data, context=Surroundings({}, strict=True))


# A CONNECT proxy.


_TUNNEL = b"HTTP/1.1 200 Connection established\r\n\r\n"


class ConnectProxy:
    """Answers CONNECT with `answer` and, when that opens a tunnel, joins the two sides."""

    def __init__(self, answer: bytes = _TUNNEL) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        try:
            self.heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
            if self.answer != _TUNNEL:  # not even a name is asked for
                return
            host, _, port = self.heads[-1].split()[1].decode().rpartition(":")
            there, back = await asyncio.open_connection(host, int(port))
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
    writer.close()


@contextlib.asynccontextmanager
async def proxying(proxy: ConnectProxy) -> AsyncIterator[ConnectProxy]:
    """A listening proxy."""
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
async def test_through_a_proxy(tls: bool, tmp_path: Path) -> None:
    """The tunnel is asked for by name, with the proxy's credentials; no request byte is readable in it with TLS."""
    authority = Authority(tmp_path)
    server = authority.server_context("localhost") if tls else None
    async with upstream_server(GOOD, tls=server) as up, proxying(ConnectProxy()) as proxy:
        url = f"http{'s' * tls}://localhost:{up.port}"
        through = f"http://me%40home:p%2Fw@127.0.0.1:{proxy.port}"
        one = upstream("a", url, ca_file=authority.ca_file if tls else None, proxy=through)
        async with serving([one], MODELS) as gateway:
            for _ in range(3):
                assert (await ask(gateway.port, post())).status == 200
        credentials = b64encode(b"me@home:p/w").decode()
        lines = [f"CONNECT localhost:{up.port} HTTP/1.1", f"Host: localhost:{up.port}"]
        lines += [f"Proxy-Authorization: Basic {credentials}", "", ""]
        assert proxy.heads == ["\r\n".join(lines).encode()]
        assert b"proxy-auth" not in bytes(up.raw).lower()
        assert "p/w" not in repr(one)


REFUSALS = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 6\r\n\r\nCANARY",
    "an answer of its own": b"HTTP/1.1 200 OK\r\n\r\n" + GOOD[0],
    "403": b"HTTP/1.1 403 Forbidden\r\n\r\n",
    "garbage": b"CANARY\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\n" + b"x: CANARY\r\n" * 5000,
    "nothing": b"",
    "100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("case", REFUSALS)
async def test_a_proxys_refusal_is_no_answer(case: str) -> None:
    """Nothing of the proxy's reaches the client: the upstream is unreachable, and the next target is asked."""
    async with proxying(ConnectProxy(REFUSALS[case])) as proxy, upstream_server(GOOD) as other:
        bad = upstream("a", "http://up.test", proxy=f"http://127.0.0.1:{proxy.port}", connect_s=0.5)
        async with serving([bad], MODELS) as gateway:
            answer = await ask(gateway.port, post())
            assert (answer.status, answer.code) == (502, "upstream_unreachable")
            assert b"CANARY" not in answer.head + answer.body
            assert gateway.pipeline.routing.upstreams["a"].origin.open == 0
        both = [entry("m", ("a", "m"), ("b", "m"))]
        async with serving([bad, upstream("b", other.url)], both) as gateway:
            assert (await ask(gateway.port, post())).status == 200


async def test_a_proxys_broken_node_is_left_for_the_next() -> None:
    """One of a proxy's addresses refuses the tunnel: the next one opens it."""
    async with (
        upstream_server(GOOD) as up,
        proxying(ConnectProxy(REFUSALS["403"])) as bad,
        proxying(ConnectProxy()) as good,
    ):
        names = Names(tcp("127.0.0.1", bad.port), tcp("127.0.0.1", good.port))
        through = Proxy("proxy.test", 1, "")
        dialer = Dialer(host="127.0.0.1", port=up.port, tls=None, loop=names, proxy=through, connect_s=3)  # type: ignore[arg-type]  # a loop that resolves as told
        for _ in range(2):
            (await _dialled(dialer)).abort()
        assert (len(bad.heads), len(good.heads)) == (1, 2)


async def test_a_hanging_proxy_is_left() -> None:
    """connect_s covers the proxy as well."""
    async with upstream_server([CLOSE]) as up:  # waits for a body that never comes

        def never_answers(_request: object) -> list[Step]:
            return [asyncio.Event()]

        up.script = never_answers
        one = upstream("a", "http://up.test", proxy=up.url, connect_s=0.3)
        async with serving([one], MODELS) as gateway:
            assert (await ask(gateway.port, post())).code == "upstream_unreachable"
            await until(lambda: not up.open)


async def test_the_environments_proxy_is_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY and friends would send prompts elsewhere."""
    async with proxying(ConnectProxy()) as proxy, upstream_server(GOOD) as up:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with serving([upstream("a", up.url)], MODELS) as gateway:
            assert (await ask(gateway.port, post())).status == 200
        assert proxy.heads == []


def test_a_proxy_does_not_show_its_credentials() -> None:
    """Not even in a traceback."""
    assert "secret" not in repr(Proxy("h", 1, "me:secret"))


async def test_slow_dns_is_a_timeout_of_connecting() -> None:
    """A lookup that hangs ends with connect_s, and the next connection waits for the same lookup."""
    names = Names(A)
    names.gate.clear()
    dialer = Dialer(host="up.test", port=1, tls=None, loop=names, connect_s=0.05)  # type: ignore[arg-type]  # a loop that resolves as told
    for _ in range(3):
        with pytest.raises(TimeoutError):
            await dialer.connect(asyncio.Protocol)
    assert names.asked == 1
    names.gate.set()
    await asyncio.sleep(0.01)


async def test_an_upstream_server_is_named(tmp_path: Path) -> None:
    """The certificate has to be the upstream's own, also behind a name that resolves to something else."""
    authority = Authority(tmp_path)
    async with upstream_server(GOOD, tls=authority.server_context("other.test")) as up:
        one = upstream("a", f"https://localhost:{up.port}", ca_file=authority.ca_file)
        async with serving([one], MODELS) as gateway:
            assert (await ask(gateway.port, post())).status == 502
        assert isinstance(up, LoopUpstream)
        assert not up.requests
