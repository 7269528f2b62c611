"""A TCP proxy in front of PostgreSQL's Unix socket that can be slow, silent, absent or rude, and well again."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from tests.upstreams.loop_thread import LoopThread

_PIECE_BYTES = 65_536


class _Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.client, self.server = client, server
        self.dead = False  # says and hears nothing more, and stays open
        self.answers_left: int | None = None  # then it dies

    def reset(self) -> None:
        """RST to the client, as a crashed machine or a firewall sends it."""
        with contextlib.suppress(OSError):
            number = self.client.get_extra_info("socket").fileno()
            with socket.socket(fileno=socket.dup(number)) as twin:
                twin.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.transport.abort()
        self.server.transport.abort()


class FaultProxy:
    """Set `delay_s` or `silent`, or call a method; faults hold until they are taken back."""

    def __init__(self, servers: LoopThread, target: Path) -> None:
        self.target = target
        self.delay_s = 0.0  # before each piece, in each direction
        self.silent = False  # accepts, and nothing passes in either direction
        self.port = 0
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers = servers
        self._server: asyncio.Server
        servers.run(self._listen())

    def cut(self) -> int:
        """Reset every connection there is; how many those were."""
        return self._servers.run(self._each(_Link.reset))

    def forget(self) -> int:
        """Let every present connection fall silent for ever, as a firewall that lost its table; new ones are well."""

        def die(link: _Link) -> None:
            link.dead = True

        return self._servers.run(self._each(die))

    def forget_after(self, answers: int) -> int:
        """As `forget`, but after so many more pieces from the server."""

        def count_down(link: _Link) -> None:
            link.answers_left = answers

        return self._servers.run(self._each(count_down))

    def refuse(self) -> None:
        """Refuse new connections; `listen_again` undoes it."""
        self._servers.run(self._close())

    def listen_again(self) -> None:
        """Accept connections on the same port again."""
        self._servers.run(self._listen())

    def stop(self) -> None:
        """End everything."""
        self._servers.run(self._stop())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()

    async def _stop(self) -> None:
        await self._close()
        await self._each(_Link.reset)
        for task in self._tasks:
            task.cancel()

    async def _each(self, change: Callable[[_Link], None]) -> int:
        links = list(self._links)
        for link in links:
            change(link)
        return len(links)

    async def _serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            server_reader, server = await asyncio.open_unix_connection(str(self.target))
        except OSError:
            client.transport.abort()
            return
        link = _Link(client, server)
        self._links.add(link)
        pumps = [
            asyncio.ensure_future(self._pump(link, client_reader, server)),
            asyncio.ensure_future(self._pump(link, server_reader, client)),
        ]
        self._tasks.update(pumps)
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._links.discard(link)
            self._tasks.difference_update(pumps)
            for pump in pumps:
                pump.cancel()
            client.transport.abort()
            server.transport.abort()

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(_PIECE_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                while self.silent and not link.dead:
                    await asyncio.sleep(0.02)
                if link.dead:
                    continue  # read on, so that the end of either side is noticed
                writer.write(piece)
                await writer.drain()
                if writer is link.client and link.answers_left is not None:
                    link.answers_left -= 1
                    link.dead = link.dead or link.answers_left <= 0
