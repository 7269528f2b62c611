"""Notes every connection and every lookup of a name that this process makes, whatever makes it. No tests here.

Python imports it at the start of each process that has this directory in PYTHONPATH; `tests/conftest.py` imports it for
the tests' own. What goes to this machine itself is nobody's business and not noted.

    sockets, asyncio     the interpreter's audit events, which nothing written in Python gets around
    uvloop               its methods that connect or look up by themselves, wrapped when it is imported
"""

import importlib.machinery
import ipaddress
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

FILE = "LUNTREX_TEST_SPY"  # where notes go, a line each: connect HOST PORT, or lookup HOST
_UVLOOP = ("create_connection", "getaddrinfo")


def is_here(host: object) -> bool:
    """Whether this is no name and no address of somebody else: this machine's own, or nothing at all."""
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    if not isinstance(host, str) or host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def install(note: Callable[[str], None]) -> None:
    """From now on `note` hears of everything, until the process ends."""

    def look(kind: str, host: object, port: object = "") -> None:
        if is_here(host):
            return
        if kind == "lookup" and _is_address(host):
            return  # nobody is asked
        said = host.decode("ascii", "replace") if isinstance(host, bytes) else host
        note(f"{kind} {said} {port}".strip())

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if not event.startswith("socket."):
            return
        if event in ("socket.connect", "socket.sendto"):
            place = arguments[1]
            if isinstance(place, tuple) and place:
                look("connect", place[0], place[1])
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            look("lookup", arguments[0])

    sys.addaudithook(hear)
    wrapper = _Wrapper(look)
    if "uvloop" in sys.modules:
        wrapper.wrap(sys.modules["uvloop"])
    else:
        sys.meta_path.insert(0, wrapper)  # type: ignore[arg-type]  # a finder by shape


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    return True


class _Wrapper:
    """Wraps uvloop's loop as soon as it is imported."""

    def __init__(self, look: Callable[..., None]) -> None:
        self._look = look

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "uvloop":
            return None
        sys.meta_path.remove(self)  # type: ignore[arg-type]  # as above
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.wrap(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]  # of this one loader
        return spec

    def wrap(self, module: Any) -> None:
        for method in _UVLOOP:
            setattr(module.Loop, method, self._wrapped(method, getattr(module.Loop, method)))

    def _wrapped(self, method: str, original: Callable[..., Any]) -> Callable[..., Any]:
        async def call(loop: Any, *arguments: Any, **named: Any) -> Any:
            if method == "getaddrinfo":
                self._look("lookup", arguments[0] if arguments else named.get("host"))
            else:
                host = arguments[1] if len(arguments) > 1 else named.get("host")
                port = arguments[2] if len(arguments) > 2 else named.get("port")
                self._look("lookup", host)
                self._look("connect", host, port)
            return await original(loop, *arguments, **named)

        return call


def _write(line: str) -> None:
    descriptor = os.open(os.environ[FILE], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(descriptor, line.encode() + b"\n")
    os.close(descriptor)


if os.environ.get(FILE) and __name__ == "sitecustomize":
    install(_write)
