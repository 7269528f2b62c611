"""An address to listen on, as a configuration value. How it is read is in `core/listening.py`."""

from typing import Annotated

from pydantic import AfterValidator, Field

from luntrex_proxy.core.listening import ListenError, parse_listen
from luntrex_proxy.settings.section import AT_LEAST_ONE_ITEM, NotEmpty, fault


def _check(text: str) -> str:
    try:
        parse_listen(text)
    except ListenError:  # its text quotes the value
        raise fault(
            "must be host:port, [IPv6 address]:port or unix:/absolute/path (a path of at most 107 bytes)"
        ) from None
    return text


Listen = Annotated[str, AfterValidator(_check)]
Listens = Annotated[tuple[Listen, ...], NotEmpty, Field(json_schema_extra=AT_LEAST_ONE_ITEM)]
