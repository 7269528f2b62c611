"""Opens the listeners of an aiohttp runner (this plane's, or the gateway's when the daemon hands it here)."""

import errno
import socket
from collections.abc import Iterable
from pathlib import Path

from aiohttp import web

from luntrex_proxy.core.listening import HostPort, UnixPath, listen_failure, parse_listen


async def open_listeners(runner: web.BaseRunner, listen: Iterable[str]) -> tuple[str, ...]:
    """Listen on every entry of `listen`; the addresses in the same form, ports filled in. Raises ListenError.

    After a failure the caller cleans the runner up; that closes the listeners opened before.
    """
    return tuple([await _open(runner, parse_listen(text)) for text in listen])


def remove_sockets(addresses: Iterable[str]) -> None:
    """Remove the files of Unix sockets that were listened on."""
    for address in addresses:
        if address.startswith("unix:"):
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


async def _open(runner: web.BaseRunner, place: HostPort | UnixPath) -> str:
    try:
        if isinstance(place, UnixPath):
            _refuse_when_served(place)
            await web.UnixSite(runner, place.path).start()
            return str(place)
        site = web.TCPSite(runner, place.host, place.port)
        await site.start()
        return str(HostPort(place.host, site.port))
    except OSError as error:
        raise listen_failure(place, error) from error


def _refuse_when_served(place: UnixPath) -> None:
    # asyncio and uvloop unlink whatever socket is at the path, also one that another process is serving right now.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(place.path)
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except BlockingIOError:  # served, and its queue is full
            pass
        raise OSError(errno.EADDRINUSE, "served by another process")
