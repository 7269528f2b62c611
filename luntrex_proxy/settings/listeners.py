"""How a plane listens, as configuration values: addresses, modes, certificates, networks. Nothing is opened here.

How an address is read is in `core/listening.py`.
"""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainValidator

from luntrex_proxy.core.listening import ListenError, parse_listen
from luntrex_proxy.settings.section import AT_LEAST_ONE_ITEM, NotEmpty, Section, fault
from luntrex_proxy.settings.upstreams import AbsolutePath

TERMINATED = "terminated_by_proxy"
UNIX_PEERS = "unix"  # in trusted_proxies: whoever may open the Unix socket
_MODE = re.compile(r"0?[0-7]{3}")


class TlsFiles(Section):
    """The listener's own TLS. Read at start and again on SIGHUP."""

    cert_file: AbsolutePath = Field(description="PEM file: the certificate, then those between it and the root.")
    key_file: AbsolutePath = Field(description="PEM file with the private key, not encrypted.")
    client_ca_file: AbsolutePath | None = Field(
        None,
        description="PEM file with the authorities whose client certificates are required. null: none is asked for.",
    )

    def files(self) -> tuple[Path, ...]:
        """Every file named here."""
        return (self.cert_file, self.key_file, *([self.client_ca_file] if self.client_ca_file else []))


def _check_listen(text: str) -> str:
    try:
        parse_listen(text)
    except ListenError:  # its text quotes the value
        raise fault(
            "must be host:port, [IPv6 address]:port, unix:/absolute/path (a path of at most 107 bytes), systemd or "
            "systemd:NAME"
        ) from None
    return text


def _check_mode(text: str) -> str:
    if _MODE.fullmatch(text) is None:
        raise fault('must be an octal mode in quotes, such as "0660"')
    return text


def _check_network(text: str) -> str:
    try:
        if text != UNIX_PEERS:
            ipaddress.ip_network(text)
    except ValueError:
        raise fault(
            "must be an address, a network such as 10.0.0.0/8 (no bits set behind the prefix), or unix"
        ) from None
    return text


def _read_tls(value: Any) -> Any:
    if value is None or value == TERMINATED or isinstance(value, TlsFiles):
        return value
    if isinstance(value, dict):
        return TlsFiles.model_validate(value)
    raise fault(f"must be null, {TERMINATED}, or {{cert_file: /path, key_file: /path}}")


Listen = Annotated[str, AfterValidator(_check_listen)]
Listens = Annotated[tuple[Listen, ...], NotEmpty, Field(json_schema_extra=AT_LEAST_ONE_ITEM)]
Mode = Annotated[str, AfterValidator(_check_mode)]
Network = Annotated[str, AfterValidator(_check_network)]
_TlsForms = TlsFiles | Literal["terminated_by_proxy"] | None
# One sentence for a wrong value, where pydantic would complain about each form it might have been.
Tls = Annotated[_TlsForms, PlainValidator(_read_tls, json_schema_input_type=_TlsForms)]
