"""Station 1, accept: a head becomes a `Call`, or a refusal with a fixed text."""

from luntrex_proxy.core.call import Dialect, NoRouteError, Route, find_route
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.gateway.http.head import RequestHead


class Call:
    """What is asked for: the route, and for `/models/{id}` the id."""

    __slots__ = ("headers", "model_id", "route")

    def __init__(self, route: Route, model_id: str, headers: dict[bytes, bytes]) -> None:
        self.route = route
        self.model_id = model_id
        self.headers = headers


def speaks(head: RequestHead) -> Dialect:
    """Whose error form the client reads, also when no route matches."""
    if b"anthropic-version" in head.headers or b"/messages" in head.path:
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def accept(head: RequestHead) -> Call:
    """The call of a head. Raises Refusal for an unknown path, a wrong method or an encoded body."""
    try:
        route, model_id = find_route(head.method, head.path, b"anthropic-version" in head.headers)
    except NoRouteError as error:
        raise Refusal("method_not_allowed" if error.known_path else "unknown_url") from None
    encoding = head.headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise Refusal("encoded_body")
    return Call(route, model_id, head.headers)
