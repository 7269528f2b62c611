"""Station 3, body: bounded bytes and the few fields that decisions need; the prompt never becomes a Python object."""

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import BadBodyError, Fields, read_fields
from luntrex_proxy.core.wire.splice import refused_field
from luntrex_proxy.gateway.http.exchange import Exchange


class HeldBodies:
    """All request bodies held right now, against one cap."""

    __slots__ = ("held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Count a body in. Raises Refusal when the cap is reached, before anything is read."""
        if self.held_bytes + size_bytes > self.limit_bytes:
            raise Refusal("body_capacity")
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Count a body out."""
        self.held_bytes -= size_bytes


def expected_bytes(exchange: Exchange, limit_bytes: int) -> int:
    """What a body may come to hold: its stated length, or for a chunked one the limit."""
    return limit_bytes if exchange.head.chunked else min(exchange.head.content_length, limit_bytes)


def decode(route: Route, body: bytes) -> Fields:
    """The head fields of a JSON body. Raises Refusal for what is not JSON, ambiguous or not allowed here."""
    try:
        fields = read_fields(route, body)
    except BadBodyError as error:
        raise Refusal(error.code, error.field) from None
    field = refused_field(route, fields)
    if field is not None:
        raise Refusal("field_not_allowed", field)
    return fields
