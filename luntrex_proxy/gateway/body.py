"""Station 3, body: bounded bytes and the few fields that decisions need; the prompt never becomes a Python object."""

from luntrex_proxy.core.call import ROUTES, Route
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.fields import BadBodyError, Fields, read_fields
from luntrex_proxy.core.wire.forbidden import forbidden_names
from luntrex_proxy.core.wire.splice import refused_field, refused_names

_WATCHED = {route.name: refused_names(route) | forbidden_names(route) for route in ROUTES}


class HeldBodies:
    """All request bodies held right now, against one cap. They count as they arrive: a stated length is free."""

    __slots__ = ("held_bytes", "limit_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0

    def take(self, size_bytes: int) -> bool:
        """Count bytes in; False, and not counted, when they don't fit as things are. Who took them takes them out."""
        held_bytes = self.held_bytes + size_bytes
        if held_bytes > self.limit_bytes:
            return False
        self.held_bytes = held_bytes
        return True


def decode(route: Route, body: bytes) -> Fields:
    """The head fields of a JSON body. Raises Refusal for what is not JSON, ambiguous or not allowed here."""
    try:
        fields = read_fields(route, body)
    except BadBodyError as error:
        raise Refusal(error.code, error.field) from None
    if fields.parts is not None and not fields.parts and _WATCHED[route.name].isdisjoint(fields.members):
        fields.dull = True  # nearly all: neither what is refused always nor what a policy may forbid is in them
        return fields
    field = refused_field(route, fields)
    if field is not None:
        raise Refusal("field_not_allowed", field)
    return fields
