"""Listeners: Unix sockets and their files, inherited sockets, shared ports, and floods of connections."""

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import pytest

from luntrex_proxy.core.listening import ListenError
from luntrex_proxy.gateway.http.addresses import Addresses, Clients
from luntrex_proxy.gateway.http.listener import Entrance, close_idle
from luntrex_proxy.gateway.overload import CLOSED
from luntrex_proxy.sockets.opening import Manner, open_listeners
from tests.fakes import PATIENCE_S, both_dialects, serving, until
from tests.gateway.doors import entered, port_of
from tests.gateway.wire import (
    LAST_CHUNK,
    STREAM_BODY,
    Client,
    ask,
    chunk,
    connected,
    post,
    reply,
    sse_head,
    upstream_server,
)

DONE = chunk(b"data: [DONE]\n\n") + LAST_CHUNK


async def ask_unix(path: Path) -> bytes:
    """The answer to one request over a Unix socket."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(post(b'{"model":"m"}', "Connection: close"))
        answer = await reader.read()
        writer.close()
        return answer


async def test_a_unix_socket_has_its_mode_and_goes_in_the_end(tmp_path: Path) -> None:
    """Requests pass; a stale file of a killed process is no obstacle; afterwards nothing is left."""
    path = tmp_path / "gateway.sock"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        async with entered(gateway, Entrance(), f"unix:{path}", manner=Manner(unix_mode=0o620)) as opened:
            assert opened.addresses == [f"unix:{path}"]
            assert path.stat().st_mode & 0o777 == 0o620
            assert (await ask_unix(path)).startswith(b"HTTP/1.1 200")
        assert not path.exists()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_who_came_in_time_is_served_at_the_end(tmp_path: Path, kind: str) -> None:
    """Connections in the kernel's queue when the listener closes, and one whose request follows a moment later."""
    place = "127.0.0.1:0" if kind == "tcp" else f"unix:{tmp_path / 'gateway.sock'}"
    request = post(b'{"model":"m"}', "Connection: close")
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway, contextlib.AsyncExitStack() as late:
        async with entered(gateway, Entrance(), place) as opened:
            clients = [socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX) for _ in range(5)]
            for client in clients:  # without a turn of the loop: nobody accepts them
                late.enter_context(client)
                client.connect(("127.0.0.1", port_of(opened)) if kind == "tcp" else str(tmp_path / "gateway.sock"))
            for client in clients[1:]:
                client.sendall(request)
            asyncio.get_running_loop().call_later(0.03, clients[0].sendall, request)
        for client in clients:
            client.setblocking(False)
            async with asyncio.timeout(PATIENCE_S):
                answer = await asyncio.get_running_loop().sock_recv(client, 65536)
            assert answer.startswith(b"HTTP/1.1 200")


async def test_only_our_own_socket_file_is_removed(tmp_path: Path) -> None:
    """What another process put in its place stays."""
    path = tmp_path / "gateway.sock"
    async with serving([]) as gateway:
        async with entered(gateway, Entrance(), f"unix:{path}"):
            path.unlink()
            path.write_text("another's")
        assert path.read_text() == "another's"


@pytest.mark.parametrize("there", ["served", "a file"])
async def test_a_path_in_use_is_left_alone(tmp_path: Path, there: str) -> None:
    """A socket that is served, or anything else at the path, is a sentence, and stays."""
    path = tmp_path / "gateway.sock"
    async with contextlib.AsyncExitStack() as stack:
        if there == "served":
            other = stack.enter_context(socket.socket(socket.AF_UNIX))
            other.bind(str(path))
            other.listen()
        else:
            path.write_text("x")
        gateway = await stack.enter_async_context(serving([]))
        with pytest.raises(ListenError, match="already in use"):
            await open_listeners(gateway.runner, [f"unix:{path}"], Manner())
        assert path.exists()


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("entry", ["systemd", "systemd:gateway"])
async def test_inherited_sockets_are_served(tmp_path: Path, kind: str, entry: str) -> None:
    """By name or all that are left; a Unix socket's file is systemd's and stays."""
    path = tmp_path / "passed.sock"
    passed = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    passed.bind(str(path) if kind == "unix" else ("127.0.0.1", 0))
    passed.listen()
    inherited = {"gateway": [os.dup(passed.fileno())]}
    async with upstream_server() as up, serving(both_dialects(up.url)) as gateway:
        opened = await open_listeners(gateway.runner, [entry], Manner(), inherited)
        assert inherited == {}
        if kind == "unix":
            assert opened.addresses == [f"unix:{path}"]
            assert (await ask_unix(path)).startswith(b"HTTP/1.1 200")
        else:
            assert (await ask(port_of(opened), post())).status == 200
        opened.remove_files()
    assert kind == "tcp" or path.exists()
    passed.close()


async def test_missing_and_unfit_inherited_sockets_are_a_sentence() -> None:
    """None passed, another name, a datagram socket, one that others could reach in plain HTTP."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram,
        socket.socket() as open_to_all,
    ):
        datagram.bind(("127.0.0.1", 0))
        open_to_all.bind(("0.0.0.0", 0))
        open_to_all.listen()
        cases = [
            ("systemd", {}, Manner(), "passed no such socket"),
            ("systemd:gateway", {"control": [0]}, Manner(), "FileDescriptorName=gateway"),
            ("systemd", {"a": [os.dup(datagram.fileno())]}, Manner(), "ListenStream="),
            ("systemd", {"a": [os.dup(open_to_all.fileno())]}, Manner(), "plain HTTP"),
        ]
        async with serving([]) as gateway:
            for entry, inherited, manner, words in cases:
                with pytest.raises(ListenError, match=words):
                    await open_listeners(gateway.runner, [entry], manner, inherited)
            good = {"a": [os.dup(open_to_all.fileno())]}
            assert await open_listeners(gateway.runner, ["systemd"], Manner(guarded=True), good)


async def test_a_port_is_shared_only_when_asked_for() -> None:
    """With reuse_port two listeners have one port; without it the second is told what to do."""
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, Entrance(), manner=Manner(reuse_port=True)) as first,
    ):
        place = first.addresses[0]
        second = await open_listeners(gateway.runner, [place], Manner(reuse_port=True))
        assert second.addresses == [place]
        assert (await ask(port_of(first), post())).status == 200
        with pytest.raises(ListenError, match=r"gateway\.reuse_port"):
            await open_listeners(gateway.runner, [place], Manner())


async def _closed(client: Client) -> bool:
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        await client.send(post())
    return await client.read() == b""


async def test_in_the_last_stage_new_connections_are_closed_and_streams_go_on() -> None:
    """A stream that runs ends as it should; when the stage is left, clients are served again."""
    entrance, go_on = Entrance(), asyncio.Event()
    async with (
        upstream_server([sse_head(), chunk(b"data: {}\n\n"), go_on, DONE]) as up,
        serving(both_dialects(up.url)) as gateway,
        entered(gateway, entrance) as opened,
        connected(port_of(opened)) as stream,
        connected(port_of(opened)) as idle,
    ):
        await (await stream.send(post(STREAM_BODY))).read_until(b"data: {}")
        entrance.overload.stage = CLOSED
        close_idle(gateway.pipeline)
        assert await idle.read() == b""
        async with connected(port_of(opened)) as late:
            assert await _closed(late)
        go_on.set()
        assert b"data: [DONE]" in await stream.read_until(b"0\r\n\r\n")
        entrance.overload.stage = 0
        up.script = [reply(200, b"{}")]
        assert (await ask(port_of(opened), post())).status == 200


async def test_three_hundred_slow_clients_hold_nothing_up() -> None:
    """Heads and bodies that drip: good requests are answered meanwhile, the slow are cleared, counts end at zero."""
    entrance = Entrance(Clients(), Addresses(5))
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), timeouts={"header_s": 1, "body_idle_s": 1}) as gateway,
        entered(gateway, entrance) as opened,
        contextlib.AsyncExitStack() as stack,
    ):
        slow = [await stack.enter_async_context(connected(port_of(opened))) for _ in range(300)]
        for number, client in enumerate(slow):
            await client.send(post()[:20] if number % 2 else post(b"x" * 100)[:-90])
        for _ in range(10):
            assert (await ask(port_of(opened), post())).status == 200
        assert {(await client.reply()).status for client in slow} == {408}
        for client in slow:
            client.close()
        await gateway.idle()


async def test_a_flood_beyond_the_limit_is_told_then_closed() -> None:
    """The first connections beyond the limit get 503, the rest are closed at once; those within are served."""
    entrance = Entrance()
    async with (
        upstream_server() as up,
        serving(both_dialects(up.url), limits={"connections": 5}) as gateway,
        entered(gateway, entrance) as opened,
        contextlib.AsyncExitStack() as stack,
    ):
        good = [await stack.enter_async_context(connected(port_of(opened))) for _ in range(5)]
        await until(lambda: len(gateway.pipeline.connections) == 5)
        flood = [await stack.enter_async_context(connected(port_of(opened))) for _ in range(200)]
        answers = [await client.read() for client in flood]
        assert {answer[:12] for answer in answers} == {b"HTTP/1.1 503", b""}
        assert answers.count(b"") >= 100
        for client in good:
            assert (await (await client.send(post())).reply()).status == 200
