"""Where a plane listens: a `listen` entry as a place, and the sentence when it cannot be had. Opens nothing."""

import errno
import ipaddress
import re
from dataclasses import dataclass

_FORMS = "write host:port, [ipv6]:port, unix:/absolute/path, systemd or systemd:NAME"
# FileDescriptorName= of a socket unit: no control characters, no colon.
_INHERITED_NAME = re.compile(r"[!-9;-~]{1,255}")


class ListenError(Exception):
    """A listener cannot be opened; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True)
class HostPort:
    """A TCP listener. Port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost is taken as reachable from outside."""
        return is_loopback_host(self.host)


@dataclass(frozen=True, slots=True)
class UnixPath:
    """A Unix socket at an absolute path."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"

    @property
    def is_loopback(self) -> bool:
        """A Unix socket never leaves the machine."""
        return True


@dataclass(frozen=True, slots=True)
class Inherited:
    """Sockets that systemd opened for us: those of one FileDescriptorName, or with an empty name all the others."""

    name: str = ""

    def __str__(self) -> str:
        return f"systemd:{self.name}" if self.name else "systemd"

    @property
    def is_loopback(self) -> bool:
        """Not known before the start, which looks at the socket itself."""
        return True


Place = HostPort | UnixPath | Inherited


def parse_listen(text: str) -> Place:
    """The place a `listen` entry names. Raises ListenError with a sentence."""
    if text == "systemd" or text.startswith("systemd:"):
        name = text[len("systemd:") :]
        if text != "systemd" and _INHERITED_NAME.fullmatch(name) is None:
            raise ListenError(f"{text!r} is not an address to listen on: after systemd: stands a FileDescriptorName.")
        return Inherited(name)
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ListenError(f"{text!r} is not an address to listen on: the path after unix: must be absolute.")
        # sun_path holds 108 bytes with its final NUL; the kernel's own message does not say so.
        if len(path.encode()) > 107:
            raise ListenError(f"{text!r} is not an address to listen on: a socket path has at most 107 bytes.")
        return UnixPath(path)
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"{text!r} is not an address to listen on: {_FORMS}.")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        if not _is_ip(host, 6):
            raise ListenError(f"{text!r} is not an address to listen on: the text in brackets is not an IPv6 address.")
    elif not host or ":" in host or any(letter.isspace() for letter in host):
        raise ListenError(f"{text!r} is not an address to listen on: {_FORMS}.")
    return HostPort(host, int(port))


def listen_failure(place: Place, error: OSError) -> ListenError:
    """The sentence for an operating system's refusal to listen at `place`."""
    match error.errno:
        case errno.EADDRINUSE:
            reason = (
                "it is already in use; stop the other program, choose another address in the configuration, or set "
                "gateway.reuse_port in all processes that share it"
            )
        case errno.EACCES | errno.EPERM:
            reason = "permission is denied; choose a port above 1023, or a directory this user may write to"
        case errno.EADDRNOTAVAIL:
            reason = "this machine has no such address"
        case errno.ENOENT | errno.ENOTDIR:
            reason = "its directory does not exist"
        case errno.EAFNOSUPPORT:
            reason = "this machine does not speak that address family"
        case _:
            reason = "the name cannot be resolved or the system refuses it"
    return ListenError(f"Cannot listen on {place}: {reason}.")


def is_loopback_host(host: str) -> bool:
    """Whether a host given by name or address is this machine. Of names only localhost is believed."""
    return host == "localhost" or is_loopback_address(host)


def is_loopback_address(text: str) -> bool:
    """Whether `text` is an IP address that never leaves this machine."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _is_ip(text: str, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
