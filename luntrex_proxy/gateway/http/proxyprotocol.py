"""The PROXY protocol's header, versions 1 and 2 (haproxy.org, proxy-protocol.txt), as a pure function. Strict.

Whatever deviates ends the connection: a header that is read wrongly would give one client another's address.
"""

import ipaddress
import re
from typing import NamedTuple

MAX_HEADER_BYTES = 16 + 2048  # version 2 with more extensions than any balancer sends
_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_LINE_BYTES = 107
_WORD = b"PROXY "
_PORT = rb"(?:0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f:.]{2,45}) ([0-9A-Fa-f:.]{2,45}) (%b) (%b)\r\n" % (_PORT, _PORT))
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [ -~]*)?\r\n")
_LOCAL, _PROXIED = 0x20, 0x21
# Family and transport -> bytes of the addresses and of one address. Datagrams do not come over a stream.
_FAMILIES = {0x00: (0, 0), 0x11: (12, 4), 0x21: (36, 16), 0x31: (216, 0)}


class BadProxyHeaderError(Exception):
    """What came is no PROXY header. The text is fixed."""


class ProxyHeader(NamedTuple):
    """Whose connection it is and how many bytes the header took."""

    address: str  # empty: the proxy's own connection (a health check), or an address that is not IP
    length: int


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header `data` begins with; None as long as it may still become one. Raises BadProxyHeaderError."""
    if data[:12] == _SIGNATURE[: len(data)]:
        return _parse_binary(data)
    if data[:6] == _WORD[: len(data)]:
        return _parse_line(data)
    raise BadProxyHeaderError("no signature")


def _parse_line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _MAX_LINE_BYTES) + 2
    if end < 2:
        if len(data) >= _MAX_LINE_BYTES:
            raise BadProxyHeaderError("the line is too long")
        return None
    line = data[:end]
    if _UNKNOWN.fullmatch(line) is not None:
        return ProxyHeader("", end)
    found = _LINE.fullmatch(line)
    if found is None or int(found[4]) > 65535 or int(found[5]) > 65535:
        raise BadProxyHeaderError("the line is malformed")
    try:
        source, target = (ipaddress.ip_address(found[number].decode()) for number in (2, 3))
    except ValueError:
        raise BadProxyHeaderError("an address is malformed") from None
    if source.version != int(found[1]) or target.version != int(found[1]):
        raise BadProxyHeaderError("an address is of the other family")
    return ProxyHeader(str(source), end)


def _parse_binary(data: bytes) -> ProxyHeader | None:
    if len(data) > 12 and data[12] not in (_LOCAL, _PROXIED):
        raise BadProxyHeaderError("unknown version or command")
    if len(data) < 16:
        return None
    end = 16 + int.from_bytes(data[14:16])
    if end > MAX_HEADER_BYTES:
        raise BadProxyHeaderError("the header is too long")
    local = data[12] == _LOCAL
    block_bytes, address_bytes = _FAMILIES.get(data[13], (-1, 0))
    if not local and (block_bytes < 0 or end - 16 < block_bytes):
        raise BadProxyHeaderError("unknown family, or too short for it")
    if len(data) < end:
        return None
    if local or not address_bytes:
        return ProxyHeader("", end)
    return ProxyHeader(str(ipaddress.ip_address(data[16 : 16 + address_bytes])), end)
