"""Station 1, accept: a head becomes a `Call`, or a refusal with a fixed text."""

import re
from urllib.parse import unquote

from luntrex_proxy.core.call import Dialect, NoRouteError, Route, find_route
from luntrex_proxy.core.refusals import Refusal
from luntrex_proxy.core.wire.headers import TO_UPSTREAM, copy_allowed
from luntrex_proxy.gateway.http.head import RequestHead

# The one query that is passed on: where in a provider's list of models a page begins.
_PAGE = re.compile(rb"(?:limit=[0-9]{1,4}|(?:after|before)_id=[A-Za-z0-9._:@-]{1,200})")


class Call:
    """What is asked for: the route, for `/models/{id}` the id, for a list of models the page.

    Follows from the head alone, without its length: a head that comes again is the same call.
    """

    __slots__ = ("headers", "key_hash", "model_id", "page", "passed", "route")

    def __init__(self, route: Route, model_id: str, page: bytes, headers: dict[bytes, bytes]) -> None:
        self.route = route
        self.model_id = model_id
        self.page = page
        self.headers = headers
        self.key_hash = b""  # by which the key ring last knew the key
        lines: list[bytes] = []
        copy_allowed(TO_UPSTREAM[route.dialect], headers, lines)
        self.passed = b"".join(lines)  # of the headers: what an upstream gets to see


def speaks(head: RequestHead) -> Dialect:
    """Whose error form the client reads, also when no route matches."""
    if b"anthropic-version" in head.headers or b"/messages" in head.path:
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def guess_dialect(received: bytes) -> Dialect:
    """The same for bytes that never became a head: their first line or a header may still tell."""
    if b"/messages" in received[:256] or b"anthropic-version:" in received[:8192].lower():
        return Dialect.ANTHROPIC
    return Dialect.OPENAI


def accept(head: RequestHead) -> Call:
    """The call of a head. Raises Refusal for an unknown path, a wrong method or an encoded body."""
    known = head.call
    if type(known) is Call:
        return known
    try:
        route, model_id = find_route(head.method, head.path, b"anthropic-version" in head.headers)
    except NoRouteError as error:
        raise Refusal("method_not_allowed" if error.known_path else "unknown_url") from None
    encoding = head.headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise Refusal("encoded_body")
    page = b""
    if route.method == "GET" and head.query:
        page = b"&".join(part for part in head.query.split(b"&") if _PAGE.fullmatch(part) is not None)
    call = head.call = Call(route, unquote(model_id), page, head.headers)  # SDKs send the slash in a name as %2F
    return call
