"""What a running daemon of this machine sees of its upstreams, asked through its control listener: no key is needed."""

import contextlib
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from luntrex_proxy.core.health import Condition
from luntrex_proxy.core.listening import HostPort, Inherited, Place, parse_listen

if TYPE_CHECKING:
    from luntrex_proxy.settings.model import Settings

_WAIT_S: Final = 2.0
_ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where such a listener is reached from here


class _Status(msgspec.Struct):
    upstreams: list[Condition]


_decode: Final = msgspec.json.Decoder(_Status).decode


@dataclass(frozen=True, slots=True)
class Live:
    """What the process behind `listener` says."""

    listener: str
    conditions: list[Condition]


async def ask_daemon(settings: "Settings", models: Iterable[str] = ()) -> Live | None:
    """How the upstreams are, and for which of these models, by their names there, they are paused.

    None: no daemon with a control listener of the configuration can be asked.
    """
    tls = _only_its_own_certificate(settings)
    if tls is None:
        return None
    for text in settings.control.listen:
        place = parse_listen(text)
        if not isinstance(place, Inherited):
            with contextlib.suppress(OSError, ValueError, msgspec.MsgspecError):
                return Live(text, await _ask(place, tls, list(models)))
    return None


async def _ask(place: Place, tls: ssl.SSLContext | bool, models: list[str]) -> list[Condition]:
    import aiohttp  # noqa: PLC0415 -- slow to import, and most verbs ask nobody

    if isinstance(place, HostPort):
        where = HostPort(_ANY_ADDRESS.get(place.host, place.host), place.port)
        connector: aiohttp.BaseConnector = aiohttp.TCPConnector(ssl=tls)
    else:
        where, connector = HostPort("localhost", 80), aiohttp.UnixConnector(str(place).removeprefix("unix:"))
    scheme = "http" if tls is True else "https"
    timeout = aiohttp.ClientTimeout(total=_WAIT_S)
    try:
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False) as session:
            url = f"{scheme}://{where}/statusz"
            async with session.get(url, params=[("model", model) for model in models], allow_redirects=False) as answer:
                answer.raise_for_status()
                return _decode(await answer.read()).upstreams
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OSError from error


def _only_its_own_certificate(settings: "Settings") -> ssl.SSLContext | bool | None:
    """What trusts the daemon's certificate and no other; True: it speaks plain HTTP; None: it cannot be asked."""
    files = settings.control.tls
    if files is None or isinstance(files, str):
        return True
    if files.client_ca_file is not None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # it is reached by another name here, and nobody else has its key
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(files.cert_file)
    except (OSError, ssl.SSLError):
        return None
    return context
