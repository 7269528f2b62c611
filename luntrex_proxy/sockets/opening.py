"""Opens the listeners of a plane under its aiohttp runner, and removes the socket files it made.

opened = await open_listeners(runner, settings.listen, Manner(...), inherited)
opened.remove_files(); await runner.cleanup()
"""

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import socket
import stat
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from luntrex_proxy.core.listening import (
    HostPort,
    Inherited,
    ListenError,
    Place,
    UnixPath,
    is_loopback_address,
    listen_failure,
    parse_listen,
)

# A classic BPF program (code, jt, jf, k; linux/filter.h) on the TCP header: drop SYN without ACK, keep all else.
_NO_SYN = ((0x30, 0, 0, 13), (0x54, 0, 0, 0x12), (0x15, 0, 1, 0x02), (0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))
_SO_ATTACH_FILTER = 26
_HANDSHAKES_S = 0.05  # for those that had begun
_TURN_LOOK_S = 0.01
_TURN_LOOKS = 200  # so many times, 2 seconds; a turn takes less than a millisecond

# Sockets the service manager opened for this process, by name. Who takes one takes it out.
InheritedSockets = dict[str, list[int]]


@dataclass(frozen=True, slots=True)
class Manner:
    """How a plane listens."""

    backlog: int = 128
    unix_mode: int = 0o660
    reuse_port: bool = False
    guarded: bool = False  # TLS here or a TLS proxy in front: an inherited socket may be reachable from outside


@dataclass(slots=True)
class Opened:
    """What is listened on."""

    addresses: list[str] = field(default_factory=list)  # in the form of `listen` entries, ports filled in
    _files: list[tuple[Path, int, int]] = field(default_factory=list)

    def remove_files(self) -> None:
        """Remove the files of Unix sockets made here, but none that another process has put in their place."""
        for path, device, inode in self._files:
            try:
                with _turn(path.parent):
                    there = path.lstat()
                    if (there.st_dev, there.st_ino) == (device, inode):
                        path.unlink()
            except OSError:  # gone already, or not ours to remove any more
                continue
        self._files.clear()

    def made(self, place: UnixPath) -> None:
        """Remember a socket file as our own."""
        there = os.lstat(place.path)
        self._files.append((Path(place.path), there.st_dev, there.st_ino))


@contextlib.contextmanager
def _turn(directory: Path) -> Iterator[None]:
    """Let one process at a time look at, remove and bind Unix sockets in `directory`. Raises OSError.

    Two that start at once could each take the other's new socket for one that nobody serves. The lock is on the
    directory itself: a lock file would stay behind, and belong to whoever started first.
    """
    lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for _ in range(_TURN_LOOKS):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_TURN_LOOK_S)  # at a start or an end, when nothing else runs
        else:  # no waiting for ever: whoever may read the directory can hold the lock
            raise OSError(errno.EADDRINUSE, "another process opens or removes sockets there")
        yield
    finally:
        os.close(lock)


class _Site(web.BaseSite):
    """One `listen` entry under a runner: aiohttp's own sites know neither modes nor inherited Unix sockets."""

    def __init__(self, runner: web.BaseRunner, place: Place, options: dict[str, Any]) -> None:
        super().__init__(runner)
        self._place = place
        self._options = options
        self.factory: Callable[[], asyncio.BaseProtocol] = runner.server  # type: ignore[assignment]  # set up already

    @property
    def name(self) -> str:
        """Where this listens."""
        return str(self._place)

    async def start(self) -> None:
        """Listen."""
        await super().start()
        loop = asyncio.get_running_loop()
        given: socket.socket | None = self._options.get("sock")
        if given is not None and given.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(self.factory, **self._options)
        else:
            self._server = await loop.create_server(self.factory, **self._options)

    async def stop(self) -> None:
        """Stop listening; who stands in the kernel's queue is let in, where closing would throw them out."""
        queues = []
        if self._server is not None and not isinstance(self._place, Inherited):
            sockets: list[socket.socket] = self._server.sockets  # type: ignore[attr-defined]  # asyncio's and uvloop's server have it
            queues = [socket.socket(fileno=os.dup(listening.fileno())) for listening in sockets]
        if self._options.get("reuse_port"):
            for queue in queues:
                _send_new_ones_on(queue)
            await asyncio.sleep(_HANDSHAKES_S)
        await super().stop()
        for queue in queues:
            with queue:
                came = list(itertools.islice(_waiting(queue), self._options["backlog"]))
            for sock in came:
                await asyncio.get_running_loop().connect_accepted_socket(self.factory, sock)

    def address(self) -> str:
        """The entry with the port the kernel chose."""
        if isinstance(self._place, HostPort) and self._server is not None:
            return str(HostPort(self._place.host, self._server.sockets[0].getsockname()[1]))  # type: ignore[attr-defined]  # asyncio's and uvloop's server have it
        return str(self._place)


def _send_new_ones_on(queue: socket.socket) -> None:
    """Let the kernel drop each SYN: its sender asks again in a second, and another process on the port answers. What
    came between the last accept and the close would be thrown out."""
    program = b"".join(struct.pack("HBBI", *step) for step in _NO_SYN)
    buffer = ctypes.create_string_buffer(program)
    with contextlib.suppress(OSError):  # then the gap is as small as it can be
        queue.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", len(_NO_SYN), ctypes.addressof(buffer))
        )


def _waiting(queue: socket.socket) -> Iterator[socket.socket]:
    """The connections that wait to be accepted now."""
    queue.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            yield queue.accept()[0]


async def open_listeners(
    runner: web.BaseRunner,
    listen: Iterable[str],
    manner: Manner,
    inherited: InheritedSockets | None = None,
    wrap: Callable[[Callable[[], asyncio.Protocol]], Callable[[], asyncio.Protocol]] | None = None,
) -> Opened:
    """Listen on every entry of `listen`; `wrap` puts something (TLS) around the runner's protocols. Raises ListenError.

    After a failure nothing is left on disk; the caller cleans the runner up, which closes what was opened before.
    """
    opened = Opened()
    try:
        for place in map(parse_listen, listen):
            try:
                for site in _sites(runner, place, manner, inherited or {}, opened):
                    if wrap is not None:
                        site.factory = wrap(site.factory)  # type: ignore[arg-type]  # what a runner makes are Protocols
                    await site.start()
                    opened.addresses.append(site.address())
            except OSError as error:
                raise listen_failure(place, error) from error
    except BaseException:
        opened.remove_files()
        raise
    return opened


def _sites(
    runner: web.BaseRunner, place: Place, manner: Manner, inherited: InheritedSockets, opened: Opened
) -> Iterable[_Site]:
    options: dict[str, Any] = {"backlog": manner.backlog}
    match place:
        case HostPort():
            options |= {"host": place.host, "port": place.port}
            if manner.reuse_port:
                options["reuse_port"] = True
            yield _Site(runner, place, options)
        case UnixPath():
            yield _Site(runner, place, options | {"sock": _unix_socket(place, manner, opened)})
        case Inherited():
            for name, sock in _take_inherited(place, inherited, guarded=manner.guarded):
                where = UnixPath(sock.getsockname()) if sock.family == socket.AF_UNIX else _host_port(sock)
                yield _Site(runner, where or Inherited(name), options | {"sock": sock})


def _unix_socket(place: UnixPath, manner: Manner, opened: Opened) -> socket.socket:
    """A listening socket; nobody could connect to it before its mode was set."""
    with _turn(Path(place.path).parent):
        _remove_stale(place)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.bind(place.path)
            opened.made(place)
            Path(place.path).chmod(manner.unix_mode)
            sock.listen(manner.backlog)  # before the turn ends: one that does not listen looks like one nobody serves
        except BaseException:
            sock.close()
            raise
    return sock


def _remove_stale(place: UnixPath) -> None:
    """Remove a socket nobody serves any more, as a killed process leaves it. Raises OSError for anything else there."""
    try:
        if not stat.S_ISSOCK(os.lstat(place.path).st_mode):
            raise OSError(errno.EADDRINUSE, "something that is no socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(place.path)
        except ConnectionRefusedError:
            Path(place.path).unlink(missing_ok=True)
            return
        except BlockingIOError:  # served, and its queue is full
            pass
    raise OSError(errno.EADDRINUSE, "served by another process")


def _take_inherited(
    place: Inherited, inherited: InheritedSockets, *, guarded: bool
) -> Iterable[tuple[str, socket.socket]]:
    names = [place.name] if place.name else list(inherited)
    taken = [(name, fd) for name in names for fd in inherited.pop(name, [])]
    if not taken:
        what = f"a socket unit with FileDescriptorName={place.name}" if place.name else "the socket unit"
        raise ListenError(
            f"Cannot listen on {place}: systemd passed no such socket; start {what} instead of the service."
        )
    for name, fd in taken:
        sock = socket.socket(fileno=fd)
        reason = _unfit(sock, guarded=guarded)
        if reason:
            sock.close()
            raise ListenError(f"Cannot listen on {place}: {reason}.")
        yield name, sock


def _unfit(sock: socket.socket, *, guarded: bool) -> str:
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it is not a ListenStream= socket with Accept=no"
    if not guarded and sock.family != socket.AF_UNIX and not is_loopback_address(sock.getsockname()[0]):
        return (
            "other machines could reach it over plain HTTP; configure tls for this plane or let the socket unit listen "
            "on 127.0.0.1"
        )
    return ""


def _host_port(sock: socket.socket) -> HostPort | None:
    name = sock.getsockname()
    return HostPort(name[0], name[1]) if sock.family in (socket.AF_INET, socket.AF_INET6) else None
